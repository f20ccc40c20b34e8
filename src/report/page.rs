//! `report.html`: one page with everything a run leaves, its pictures embedded.
//!
//! It loads nothing, runs no script, and reads on a phone as well as on a desk, in the light or in
//! the dark.

use std::fmt::Write;
use std::path::Path;
use std::time::SystemTime;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use image::RgbImage;
use ndarray::Array2;

use super::analysis::{Analysis, BINS, Prediction};
use super::chart::{self, NamedSeries};
use super::metrics::{self, EpochMetrics};
use super::reading::capitalised;
use super::run::WRONG_LABELS;
use super::{RunReport, canvas, samples};
use crate::data::Images;
use crate::error::Result;
use crate::files::write_atomic;
use crate::models::Calibration;
use crate::text::{self, duration, grouped, moment};

const STYLE: &str = include_str!("page.css");

/// Classes of which the page shows the matrix as a table; more are in `confusion.csv` only.
const MOST_IN_MATRIX: usize = 30;
/// Pictures on each sheet, and lines in the table of confused pairs.
const SHOWN: usize = 24;
const PAIRS: usize = 12;

/// Writes the page.
///
/// # Errors
/// If `path` cannot be written, or a picture cannot be encoded.
pub fn write(path: impl AsRef<Path>, report: &RunReport<'_>, analysis: &Analysis) -> Result<()> {
    let mut body = header(report, analysis);
    facts(&mut body, report);
    curves(&mut body, report);
    body.push_str("<div class=\"charts\">");
    classes(&mut body, report.classes, analysis);
    pairs(&mut body, report.classes, analysis);
    body.push_str("</div>\n");
    confusion(&mut body, report.classes, analysis);
    let sheet = |predictions: &[Prediction]| -> Result<String> {
        let figure = |p: &Prediction| figure(report, report.images, p);
        Ok(format!(
            "<div class=\"sheet\">{}</div>",
            predictions.iter().map(figure).collect::<Result<String>>()?
        ))
    };
    let set = if report.set == "test" { "Test" } else { "Validation" };
    let spread = sheet(&analysis.spread(SHOWN))?;
    let _ = write!(body, "<h2>{set} images</h2><p class=\"muted\">Some of each class.</p>{spread}");
    let mistakes = analysis.mistakes();
    if !mistakes.is_empty() {
        let shown = &mistakes[..mistakes.len().min(SHOWN)];
        let text = "The label got the least probability, which stands beside it.";
        let _ = write!(body, "<h2>Highest loss</h2><p class=\"muted\">{text}</p>{}", sheet(shown)?);
    }
    wrong_labels(&mut body, report, analysis)?;
    calibration(&mut body, report, analysis);
    body.push_str(report.inside);
    settings(&mut body, report.settings);
    let page = shell(report.title, &body);
    write_atomic(path, |file| std::io::Write::write_all(file, page.as_bytes()))
}

/// A page of its own: one file, which loads nothing.
pub(crate) fn shell(title: &str, body: &str) -> String {
    let title = escape(title);
    format!(
        "<!doctype html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n<title>{title}</title>\n\
         <style>\n{STYLE}</style>\n</head>\n<body>\n{body}</body>\n</html>\n"
    )
}

fn header(report: &RunReport<'_>, analysis: &Analysis) -> String {
    let mut body = format!("<h1>{}</h1><div class=\"tiles\">", escape(report.title));
    let mut tile = |value: String, name: &str| {
        let _ =
            write!(body, "<div class=\"tile\"><b>{}</b><span>{}</span></div>", escape(&value), escape(name));
    };
    let set = report.set;
    tile(percent(report.accuracy), &format!("{set} accuracy"));
    if let Some(plain) = report.plain_accuracy {
        tile(percent(plain), "of the images alone");
    }
    let best = metrics::best(report.history).map(|row| (row.epoch, row.validation_accuracy.unwrap_or(0.0)));
    if let Some((epoch, accuracy)) = best {
        tile(percent(accuracy), &format!("validation accuracy, epoch {epoch}"));
    }
    tile(format!("{:.4}", report.loss), &format!("{set} loss"));
    let measures = report.measures();
    let balanced = measures.balanced_accuracy.map(|share| (percent(share), "balanced accuracy"));
    let top5 = measures.top5_accuracy.map(|share| (percent(share), "top-5 accuracy"));
    let area = measures.auroc.map(|area| (format!("{area:.4}"), "AUROC"));
    [balanced, top5, area].into_iter().flatten().for_each(|(value, name)| tile(value, name));
    tile(grouped(analysis.predictions.len()), &format!("{set} images"));
    if let Some(last) = report.history.last() {
        tile(grouped(last.epoch), "epochs");
        tile(duration(report.history.iter().map(|row| row.seconds).sum()), "training time");
        tile(grouped(last.images_per_s.min(1e15) as usize), "images/s");
    }
    tile(grouped(report.parameters), "trained parameters");
    body + "</div>\n"
}

/// Where it comes from.
fn facts(body: &mut String, report: &RunReport<'_>) {
    body.push_str("<dl>");
    let mut fact = |name: &str, value: &str| {
        let _ = write!(body, "<div><dt>{}<dd>{}</div>", escape(name), escape(value));
    };
    report.facts.iter().for_each(|(name, value)| fact(name, value));
    fact("classes", &grouped(report.classes.len()));
    fact("written", &moment(SystemTime::now()));
    fact("program", concat!("cifar-engine ", env!("CARGO_PKG_VERSION")));
    body.push_str("</dl>\n");
}

fn curves(body: &mut String, report: &RunReport<'_>) {
    let history = report.history;
    if history.is_empty() {
        return;
    }
    let line = |name, figure: fn(&EpochMetrics) -> Option<f64>| NamedSeries {
        name,
        points: history.iter().filter_map(|row| Some((row.epoch as f64, figure(row)?))).collect(),
    };
    let losses = [line("train", |row| Some(row.train_loss)), line("validation", |row| row.validation_loss)];
    let accuracies = [
        line("train", |row| Some(100.0 * row.train_accuracy)),
        line("validation", |row| row.validation_accuracy.map(|accuracy| 100.0 * accuracy)),
    ];
    let rates = [line("rate", |row| Some(row.rate))];
    let second = report.reading.second_stage.filter(|epoch| *epoch <= history.len());
    let mut notes: Vec<String> = Vec::new();
    notes.extend(report.reading.loss.as_ref().map(|loss| format!("{}.", capitalised(loss))));
    notes.extend(second.map(|epoch| format!("Stage 2 begins with epoch {epoch}.")));
    let _ = write!(
        body,
        "<h2>Training</h2><p><span class=\"key train\">training</span> <span class=\"key validation\">validation\
         </span></p><p class=\"muted\">{}</p><div class=\"charts three\"><div><small>Loss</small>{}</div><div>\
         <small>Accuracy (%)</small>{}</div><div><small>Learning rate</small>{}</div></div>\n<details><summary>All \
         epochs</summary><div class=\"wide\"><table><thead><tr><th>epoch<th>loss<th>accuracy<th>validation loss\
         <th>validation accuracy<th>rate<th>seconds</tr></thead><tbody>",
        escape(&notes.join(" ")),
        chart::svg(&losses, (0.0, f64::INFINITY), second),
        chart::svg(&accuracies, (0.0, 100.0), second),
        chart::svg(&rates, (0.0, f64::INFINITY), second),
    );
    for row in history {
        let number = |value: Option<f64>| value.map_or("–".into(), |value| format!("{value:.4}"));
        let _ = write!(
            body,
            "<tr><td>{}<td>{:.4}<td>{}<td>{}<td>{}<td>{}<td>{:.1}</tr>",
            row.epoch,
            row.train_loss,
            percent(row.train_accuracy),
            number(row.validation_loss),
            row.validation_accuracy.map_or("–".into(), percent),
            text::figure(row.rate),
            row.seconds
        );
    }
    body.push_str("</tbody></table></div></details>\n");
}

fn classes(body: &mut String, names: &[String], analysis: &Analysis) {
    body.push_str(
        "<div class=\"wide\"><h2>Classes</h2><table><thead><tr><th>class<th>recall<th class=\"meters\"><th>precision\
         <th>F1<th>images</tr></thead><tbody>",
    );
    for (name, figures) in names.iter().zip(&analysis.classes) {
        let share = |share: Option<f64>| share.map_or("–".into(), percent);
        let recall = 100.0 * figures.recall.unwrap_or(0.0);
        let _ = write!(
            body,
            "<tr><td>{}<td>{}<td><span class=\"meter\"><i style=\"width:{recall:.1}%\"></i></span><td>{}<td>{}<td>{}\
             </tr>",
            escape(name),
            share(figures.recall),
            share(figures.precision),
            share(figures.f1()),
            grouped(figures.images)
        );
    }
    body.push_str("</tbody></table></div>\n");
}

fn confusion(body: &mut String, names: &[String], analysis: &Analysis) {
    if names.len() > MOST_IN_MATRIX {
        return;
    }
    body.push_str("<h2>Confusion</h2><p class=\"muted\">Rows are labels, columns are predictions.</p>");
    body.push_str("<div class=\"charts\">");
    matrix(body, "Images", names, &analysis.confusion(), |count, _| grouped(count));
    let share = |count: usize, total: usize| format!("{:.0}", 100.0 * count as f64 / total as f64);
    matrix(body, "Per cent of the label", names, &analysis.confusion(), share);
    body.push_str("</div>\n");
}

fn pairs(body: &mut String, names: &[String], analysis: &Analysis) {
    let pairs = analysis.confused();
    if pairs.is_empty() {
        return;
    }
    body.push_str(
        "<div class=\"wide\"><h2>Most confused</h2><table class=\"pairs\"><thead><tr><th>label<th>taken for<th>images\
         <th>of the label</tr></thead><tbody>",
    );
    for &(label, predicted, count) in pairs.iter().take(PAIRS) {
        let share = count as f64 / analysis.classes[label].images as f64;
        let (label, predicted) = (escape(&names[label]), escape(&names[predicted]));
        let (count, share) = (grouped(count), percent(share));
        let _ = write!(body, "<tr><td>{label}<td>{predicted}<td>{count}<td>{share}</tr>");
    }
    body.push_str("</tbody></table></div>\n");
}

fn matrix(
    body: &mut String,
    title: &str,
    names: &[String],
    confusion: &Array2<usize>,
    cell: impl Fn(usize, usize) -> String,
) {
    let heads: String = names.iter().map(|name| format!("<th><span>{}</span>", escape(name))).collect();
    let _ = write!(
        body,
        "<div class=\"wide\"><small>{title}</small><table class=\"matrix\"><thead><tr><th>{heads}</tr></thead><tbody>"
    );
    for (name, row) in names.iter().zip(confusion.outer_iter()) {
        let total = row.sum();
        let _ = write!(body, "<tr><th>{}", escape(name));
        for &count in row {
            let heat = (count as f64 / total.max(1) as f64).sqrt() * 0.75;
            let text = if count == 0 { String::new() } else { cell(count, total) };
            let _ = write!(body, "<td style=\"background:rgba(var(--heat),{heat:.2})\">{text}");
        }
        body.push_str("</tr>");
    }
    body.push_str("</tbody></table></div>");
}

/// Images whose labels are likely wrong.
fn wrong_labels(body: &mut String, report: &RunReport<'_>, analysis: &Analysis) -> Result<()> {
    let found = report.likely_wrong(analysis);
    if found.is_empty() {
        return Ok(());
    }
    let shown = &found[..found.len().min(SHOWN)];
    let figures = shown.iter().map(|(images, p)| figure(report, images, p)).collect::<Result<String>>()?;
    let _ = write!(
        body,
        "<h2>Likely wrong labels</h2><p class=\"muted\">{} of which the model says another class than the label, as surely \
         as of that class's own images in the mean (confident learning). Look at each: of a model that knows little, \
         most labels are right. <code>{WRONG_LABELS}</code> has all; without the rows that are right, <code>cifar-engine data FOLDER \
         --apply {WRONG_LABELS}</code> moves the images; of a table, change their classes there.</p><div class=\"sheet\">{figures}</div>",
        text::counted(found.len(), "image")
    );
    Ok(())
}

/// A file as a link to it, where it is there.
fn linked(folder: Option<&Path>, file: &str) -> String {
    let path = folder.map(|folder| folder.join(file)).filter(|path| path.is_file());
    match path {
        Some(path) => format!("<a href=\"{}\">{}</a>", address(&path), escape(file)),
        None => escape(file),
    }
}

/// The address of a file, with every byte that is no plain letter as an escape.
fn address(path: &Path) -> String {
    let bytes = path.as_os_str().as_encoded_bytes().iter();
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"/-._~".contains(&byte);
    let escaped = bytes.map(|&byte| match byte {
        b'\\' if cfg!(windows) => "/".to_string(),
        byte if plain(byte) => char::from(byte).to_string(),
        byte => format!("%{byte:02X}"),
    });
    let path: String = escaped.collect();
    format!("file://{}{path}", if path.starts_with('/') { "" } else { "/" })
}

fn figure(report: &RunReport<'_>, images: &Images, p: &Prediction) -> Result<String> {
    let names = report.classes;
    let (png, side) = samples::thumbnail(&images.image(p.index)?, images.size)?;
    let smooth = if side > 64 { " class=\"smooth\"" } else { "" };
    let (label, predicted) = (escape(&names[p.label]), escape(&names[p.predicted]));
    // The sign stays on the line of its figure.
    let percent = |p: f32| samples::percent(p).replace(' ', "&nbsp;");
    let beside = if p.is_right() { String::new() } else { format!(" {}", percent(p.label_probability)) };
    // Whoever looks for a wrong label wants to know where it is.
    let file = images.file(p.index).filter(|_| !p.is_right());
    let file = file.map(|file| format!("<br>{}", linked(report.folder, file))).unwrap_or_default();
    let (class, mark) = if p.is_right() { ("right", "✓") } else { ("wrong", "✗") };
    Ok(format!(
        "<figure><img{smooth} width=\"{side}\" height=\"{side}\" alt=\"image {}: {label}\" \
         src=\"data:image/png;base64,{}\"><span class=\"{class}\">{predicted} {} {mark}</span><br>\
         <span class=\"muted\">label: {label}{beside}{file}</span></figure>\n",
        p.index,
        STANDARD.encode(png),
        percent(p.probability),
    ))
}

/// How sure the model is, and how often it is right then.
fn calibration(body: &mut String, report: &RunReport<'_>, analysis: &Analysis) {
    let Some(error) = analysis.calibration_error() else { return };
    let Calibration { temperature, unsure_below } = report.calibration;
    let plain = report.measures().calibration_error.filter(|_| temperature != 1.0);
    let plain = plain.map(|plain| format!(" (without the temperature {temperature:.3}: {})", percent(plain)));
    let unsure = unsure_below.map(|least| {
        let count = analysis.predictions.iter().filter(|p| p.probability < least).count();
        let share = percent(f64::from(least));
        format!(
            " {} below {share}, where <code>predict</code> says unsure.",
            text::counted(count, "prediction")
        )
    });
    const SIDE: f64 = 300.0;
    let _ = write!(
        body,
        "<h2>Calibration</h2><p class=\"muted\">Expected calibration error {}{}: a bar is the share of right \
         predictions among those of which the model was so sure, as wide as its range; on the line it would be as \
         right as it is sure. Darker bars have more images.{}</p>\
         <svg class=\"calibration\" viewBox=\"-50 -8 {} {}\" role=\"img\" aria-label=\"calibration\">",
        percent(error),
        plain.unwrap_or_default(),
        unsure.unwrap_or_default(),
        SIDE + 60.0,
        SIDE + 40.0
    );
    let most = analysis.calibration().iter().map(|bin| bin.images).max().unwrap_or(1).max(1) as f64;
    for (place, bin) in analysis.calibration().iter().enumerate().filter(|(_, bin)| bin.images > 0) {
        let width = SIDE / BINS as f64;
        let (x, height) = (place as f64 * width, SIDE * bin.accuracy);
        let title = format!(
            "{}, {} sure, {} right",
            text::counted(bin.images, "image"),
            percent(bin.confidence),
            percent(bin.accuracy)
        );
        let _ = write!(
            body,
            "<rect x=\"{x:.1}\" y=\"{:.1}\" width=\"{:.1}\" height=\"{height:.1}\" opacity=\"{:.2}\"><title>{title}</title></rect>",
            SIDE - height,
            width - 1.0,
            0.3 + 0.7 * (bin.images as f64 / most).sqrt()
        );
    }
    let _ = write!(
        body,
        "<path class=\"grid\" d=\"M0 0V{SIDE}H{SIDE}\"/><line class=\"stage\" x1=\"0\" y1=\"{SIDE}\" x2=\"{SIDE}\" y2=\"0\"/>\
         <text x=\"-6\" y=\"10\" text-anchor=\"end\">100 %</text><text x=\"-6\" y=\"{SIDE}\" text-anchor=\"end\">0 %</text>\
         <text x=\"{SIDE}\" y=\"{0}\" text-anchor=\"end\">100 % sure</text></svg>",
        SIDE + 18.0
    );
}

fn settings(body: &mut String, settings: &str) {
    if settings.is_empty() {
        return;
    }
    let command = if settings.lines().any(|line| line == "[finetune]") { "finetune" } else { "train" };
    let _ = write!(
        body,
        "<h2>Settings</h2><p class=\"muted\">Run again with <code>cifar-engine {command} --config settings.toml</code></p>\
         <pre>{}</pre>",
        escape(settings)
    );
}

fn percent(share: f64) -> String {
    format!("{:.2} %", 100.0 * share)
}

/// A picture as the address of an image in a page.
///
/// # Errors
/// If it cannot be encoded.
pub(crate) fn embedded(picture: &RgbImage) -> Result<String> {
    Ok(format!("data:image/png;base64,{}", STANDARD.encode(canvas::png(picture)?)))
}

/// Text as HTML shows it: names of classes come from folders and files.
pub(crate) fn escape(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            _ => out.push(c),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use ndarray::ArrayView2;

    use super::*;
    use crate::report::Reading;

    fn page(names: &[&str], logits: &[f32], labels: &[u32]) -> String {
        page_with("seed = 1\n", names, logits, labels)
    }

    const HISTORY: [EpochMetrics; 2] = [epoch(1, 0.5), epoch(2, 0.5)];

    const fn epoch(epoch: usize, accuracy: f64) -> EpochMetrics {
        EpochMetrics {
            epoch,
            train_loss: 1.0,
            train_accuracy: 0.5,
            validation_loss: Some(1.0),
            validation_accuracy: Some(accuracy),
            rate: 0.1,
            images_per_s: 12_345.6,
            seconds: 93.0,
            validation_images: 1000,
            proof: None,
        }
    }

    fn page_with(settings: &str, names: &[&str], logits: &[f32], labels: &[u32]) -> String {
        let names: Vec<String> = names.iter().map(ToString::to_string).collect();
        let images = Images { labels: labels.to_vec(), ..Images::black(labels.len(), 8) };
        let report = RunReport {
            title: "cnn on <pictures>",
            classes: &names,
            history: &HISTORY,
            accuracy: 0.5,
            plain_accuracy: None,
            loss: 1.25,
            logits: ArrayView2::from_shape([labels.len(), names.len()], logits).unwrap(),
            calibration: Calibration::default(),
            images: &images,
            validation: None,
            folder: None,
            set: "test",
            parameters: 1_551_466,
            facts: &[("data".to_string(), "<pictures>".to_string())],
            reading: Reading::of(0.1, 0.0, false, 10),
            inside: "<h2>Inside</h2>",
            settings,
        };
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("report.html");
        write(&path, &report, &Analysis::of(report.logits, labels)).unwrap();
        std::fs::read_to_string(path).unwrap()
    }

    #[test]
    fn the_page_stands_alone_and_escapes_names() {
        let text = page(&["cat", "<script>alert(\"x\")</script>"], &[1.0, 0.0, 1.0, 0.0], &[0, 1]);
        assert!(!text.contains("<script") && text.contains("&lt;script&gt;alert(&quot;x&quot;)"));
        assert!(text.contains("cnn on &lt;pictures&gt;") && text.contains("1,551,466"));
        for outside in ["http:", "https:", "src=\"/", "@import", "url("] {
            assert!(!text.contains(outside), "{outside}");
        }
        assert_eq!(text.matches("<figure>").count(), 3, "two pictures, and the one that is wrong again");
        assert_eq!(text.matches("src=\"data:image/png;base64,").count(), 3);
    }

    #[test]
    fn files_are_linked_by_whatever_name_they_have() {
        let folder = tempfile::tempdir().unwrap();
        let name = "cat #1/\"a\" 50% <b>é.png";
        std::fs::create_dir(folder.path().join("cat #1")).unwrap();
        std::fs::write(folder.path().join(name), "x").unwrap();
        let link = linked(Some(folder.path()), name);
        assert!(link.ends_with(
            "/cat%20%231/%22a%22%2050%25%20%3Cb%3E%C3%A9.png\">cat #1/&quot;a&quot; 50% &lt;b&gt;é.png</a>"
        ));
        assert!(link.starts_with("<a href=\"file:///"), "{link}");
        assert_eq!(linked(Some(folder.path()), "gone.png"), "gone.png");
        assert_eq!(linked(None, name), escape(name));
    }

    #[test]
    fn a_perfect_model_has_no_mistakes_to_show() {
        let text = page(&["a", "b"], &[1.0, 0.0, 0.0, 1.0], &[0, 1]);
        assert!(!text.contains("Highest loss") && !text.contains("Most confused"));
    }

    #[test]
    fn the_command_that_runs_it_again_is_the_one_that_ran() {
        for (settings, command) in [("seed = 1\n", "train"), ("seed = 1\n\n[finetune]\n", "finetune")] {
            let text = page_with(settings, &["a", "b"], &[1.0, 0.0], &[0]);
            assert!(text.contains(&format!("cifar-engine {command} --config settings.toml")), "{text}");
        }
    }

    #[test]
    fn the_page_says_where_it_comes_from_and_how_to_read_it() {
        let text = page(&["a", "b"], &[1.0, 0.0, 2.0, 0.0], &[0, 1]);
        for part in [
            "<dt>data<dd>&lt;pictures&gt;",
            concat!("cifar-engine ", env!("CARGO_PKG_VERSION")),
            "validation accuracy, epoch 1",
            "The training loss is with label smoothing 0.1 (never below 0.50)",
            "<b>3m06s</b>",
            "<b>12,345</b><span>images/s",
            "Learning rate",
            "label: b 12&nbsp;%",
        ] {
            assert!(text.contains(part), "{part}");
        }
    }
}
