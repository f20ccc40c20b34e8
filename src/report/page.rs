//! `report.html`: one page with everything a run leaves, its pictures embedded. It loads nothing, runs no script, and
//! reads on a phone as well as on a desk, in the light or in the dark.

use std::fmt::Write;
use std::path::Path;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;

use super::analysis::{Analysis, Prediction};
use super::chart::{self, Line};
use super::metrics::EpochMetrics;
use super::{RunReport, samples};
use crate::data::Images;
use crate::error::Result;
use crate::files::write_atomic;

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
    curves(&mut body, report.history);
    classes(&mut body, report.classes, analysis);
    confusion(&mut body, report.classes, analysis);
    let sheet = |predictions: &[Prediction]| -> Result<String> {
        let figure = |p: &Prediction| figure(report.images, report.classes, p);
        Ok(format!(
            "<div class=\"sheet\">{}</div>",
            predictions.iter().map(figure).collect::<Result<String>>()?
        ))
    };
    let set = if report.set == "test" { "Test" } else { "Validation" };
    let _ = write!(body, "<h2>{set} pictures</h2>{}", sheet(&analysis.spread(SHOWN))?);
    let mistakes = analysis.mistakes();
    if !mistakes.is_empty() {
        let shown = &mistakes[..mistakes.len().min(SHOWN)];
        let text = "Where the model was most certain of something else.";
        let _ = write!(body, "<h2>Most wrong</h2><p class=\"muted\">{text}</p>{}", sheet(shown)?);
    }
    settings(&mut body, report.settings);
    let title = escape(report.title);
    let page = format!(
        "<!doctype html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n<title>{title}</title>\n\
         <style>\n{STYLE}</style>\n</head>\n<body>\n{body}</body>\n</html>\n"
    );
    write_atomic(path, |file| std::io::Write::write_all(file, page.as_bytes()))
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
        tile(percent(plain), "without mirror images");
    }
    tile(format!("{:.4}", report.loss), &format!("{set} loss"));
    tile(analysis.predictions.len().to_string(), &format!("{set} pictures"));
    if let Some(last) = report.history.last() {
        tile(last.epoch.to_string(), "epochs");
        tile(time(report.history.iter().map(|row| row.seconds).sum()), "training time");
        tile(format!("{:.0}", last.images_per_s), "pictures a second");
    }
    tile(grouped(report.parameters), "trained parameters");
    body + "</div>\n"
}

fn curves(body: &mut String, history: &[EpochMetrics]) {
    if history.is_empty() {
        return;
    }
    let line = |name, figure: fn(&EpochMetrics) -> Option<f64>| Line {
        name,
        points: history.iter().filter_map(|row| Some((row.epoch as f64, figure(row)?))).collect(),
    };
    let losses = [line("train", |row| Some(row.train_loss)), line("validation", |row| row.validation_loss)];
    let accuracies = [
        line("train", |row| Some(100.0 * row.train_accuracy)),
        line("validation", |row| row.validation_accuracy.map(|accuracy| 100.0 * accuracy)),
    ];
    let _ = write!(
        body,
        "<h2>Training</h2><p><span class=\"key train\">training</span> <span class=\"key validation\">validation\
         </span></p><div class=\"charts\"><div><small>Loss</small>{}</div><div><small>Accuracy (%)</small>{}</div>\
         </div>\n<details><summary>All epochs</summary><div class=\"wide\"><table><thead><tr><th>epoch<th>loss\
         <th>accuracy<th>validation loss<th>validation accuracy<th>rate<th>seconds</tr></thead><tbody>",
        chart::svg(&losses, (0.0, f64::INFINITY)),
        chart::svg(&accuracies, (0.0, 100.0)),
    );
    for row in history {
        let number = |value: Option<f64>| value.map_or("–".into(), |value| format!("{value:.4}"));
        let _ = write!(
            body,
            "<tr><td>{}<td>{:.4}<td>{}<td>{}<td>{}<td>{:.2e}<td>{:.1}</tr>",
            row.epoch,
            row.train_loss,
            percent(row.train_accuracy),
            number(row.validation_loss),
            row.validation_accuracy.map_or("–".into(), percent),
            row.rate,
            row.seconds
        );
    }
    body.push_str("</tbody></table></div></details>\n");
}

fn classes(body: &mut String, names: &[String], analysis: &Analysis) {
    body.push_str(
        "<h2>Classes</h2><div class=\"wide\"><table><thead><tr><th>class<th>recall<th class=\"meters\"><th>precision<th>F1<th>pictures\
         </tr></thead><tbody>",
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
            figures.images
        );
    }
    body.push_str("</tbody></table></div>\n");
}

fn confusion(body: &mut String, names: &[String], analysis: &Analysis) {
    if names.len() <= MOST_IN_MATRIX {
        body.push_str("<h2>Confusion</h2><p class=\"muted\">Rows are labels, columns are predictions.</p>");
        body.push_str("<div class=\"charts\">");
        matrix(body, "Pictures", names, &analysis.confusion(), |count, _| count.to_string());
        let share = |count: usize, total: usize| format!("{:.0}", 100.0 * count as f64 / total as f64);
        matrix(body, "Per cent of the label", names, &analysis.confusion(), share);
        body.push_str("</div>\n");
    }
    let pairs = analysis.confused();
    if pairs.is_empty() {
        return;
    }
    body.push_str(
        "<h2>Most confused</h2><div class=\"wide\"><table class=\"pairs\"><thead><tr><th>label<th>taken for<th>pictures\
                   <th>of the label</tr></thead><tbody>",
    );
    for &(label, predicted, count) in pairs.iter().take(PAIRS) {
        let share = count as f64 / analysis.classes[label].images as f64;
        let (label, predicted) = (escape(&names[label]), escape(&names[predicted]));
        let _ = write!(body, "<tr><td>{label}<td>{predicted}<td>{count}<td>{}</tr>", percent(share));
    }
    body.push_str("</tbody></table></div>\n");
}

fn matrix(
    body: &mut String,
    title: &str,
    names: &[String],
    confusion: &[Vec<usize>],
    cell: impl Fn(usize, usize) -> String,
) {
    let heads: String = names.iter().map(|name| format!("<th><span>{}</span>", escape(name))).collect();
    let _ = write!(
        body,
        "<div class=\"wide\"><small>{title}</small><table class=\"matrix\"><thead><tr><th>{heads}</tr></thead><tbody>"
    );
    for (name, row) in names.iter().zip(confusion) {
        let total = row.iter().sum::<usize>();
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

fn figure(images: &Images, names: &[String], p: &Prediction) -> Result<String> {
    let (png, side) = samples::thumbnail(images.image(p.index), images.size)?;
    let smooth = if side > 64 { " class=\"smooth\"" } else { "" };
    let (label, predicted) = (escape(&names[p.label]), escape(&names[p.predicted]));
    // Whoever looks for a wrong label wants to know where it is.
    let file = images.file(p.index).filter(|_| !p.is_right());
    let file = file.map(|file| format!("<br>{}", escape(file))).unwrap_or_default();
    let (class, mark) = if p.is_right() { ("right", "✓") } else { ("wrong", "✗") };
    Ok(format!(
        "<figure><img{smooth} width=\"{side}\" height=\"{side}\" alt=\"picture {}: {label}\" \
         src=\"data:image/png;base64,{}\"><span class=\"{class}\">{predicted} {} {mark}</span><br>\
         <span class=\"muted\">label: {label}{file}</span></figure>\n",
        p.index,
        STANDARD.encode(png),
        samples::percent(p.probability),
    ))
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

fn time(seconds: f64) -> String {
    let minutes = (seconds / 60.0).floor();
    if minutes < 1.0 {
        format!("{seconds:.1} s")
    } else {
        format!("{minutes:.0} min {:.0} s", seconds % 60.0)
    }
}

/// `551,466`.
fn grouped(number: usize) -> String {
    let digits = number.to_string();
    let groups: Vec<&str> =
        digits.as_bytes().rchunks(3).rev().filter_map(|g| std::str::from_utf8(g).ok()).collect();
    groups.join(",")
}

/// Text as HTML shows it: names of classes come from folders and files.
fn escape(text: &str) -> String {
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
    use super::*;

    fn page(names: &[&str], logits: &[f32], labels: &[u32]) -> String {
        page_with("seed = 1\n", names, logits, labels)
    }

    fn page_with(settings: &str, names: &[&str], logits: &[f32], labels: &[u32]) -> String {
        let names: Vec<String> = names.iter().map(ToString::to_string).collect();
        let images = Images { labels: labels.to_vec(), ..Images::black(labels.len(), 8) };
        let report = RunReport {
            title: "cnn on <pictures>",
            classes: &names,
            history: &[],
            accuracy: 0.5,
            plain_accuracy: None,
            loss: 1.25,
            logits,
            images: &images,
            set: "test",
            parameters: 1_551_466,
            settings,
        };
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("report.html");
        write(&path, &report, &Analysis::of(logits, labels, names.len())).unwrap();
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
    fn a_perfect_model_has_no_mistakes_to_show() {
        let text = page(&["a", "b"], &[1.0, 0.0, 0.0, 1.0], &[0, 1]);
        assert!(!text.contains("Most wrong") && !text.contains("Most confused"));
    }

    #[test]
    fn the_command_that_runs_it_again_is_the_one_that_ran() {
        for (settings, command) in [("seed = 1\n", "train"), ("seed = 1\n\n[finetune]\n", "finetune")] {
            let text = page_with(settings, &["a", "b"], &[1.0, 0.0], &[0]);
            assert!(text.contains(&format!("cifar-engine {command} --config settings.toml")), "{text}");
        }
    }

    #[test]
    fn numbers_are_grouped_and_times_are_short() {
        assert_eq!([0, 12, 123, 1234, 1_000_000].map(grouped), ["0", "12", "123", "1,234", "1,000,000"]);
        assert_eq!([3.25, 185.0].map(time), ["3.2 s", "3 min 5 s"]);
    }
}
