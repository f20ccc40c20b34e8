//! Report of a finished run, beside its curves.

use std::io::Write;
use std::path::Path;

use ndarray::ArrayView2;
use serde_json::json;

use super::analysis::{Analysis, Prediction};
#[cfg(feature = "plots")]
use super::confusion::{self, Cells};
use super::csv::{self, cell};
use super::wrong_labels::suspects;
use super::{EpochMetrics, Measures, Reading};
#[cfg(feature = "plots")]
use super::{Sample, page, samples};
use crate::data::Images;
use crate::error::{Error, Result};
use crate::files::write_atomic;
use crate::models::Calibration;

/// A finished run, and what its model says to every test image.
pub struct RunReport<'a> {
    /// Subject of the report: model and data.
    pub title: &'a str,
    /// Further facts: names and values.
    pub facts: &'a [(String, String)],
    /// Names of the classes, in the order of the logits.
    pub classes: &'a [String],
    /// Figures of all epochs; none of a model that was only evaluated.
    pub history: &'a [EpochMetrics],
    /// How the loss and the accuracy of training are to be read.
    pub reading: Reading,
    /// Accuracy on the images, from 0 to 1.
    pub accuracy: f64,
    /// Where each image was averaged with its mirror image, the accuracy of the images alone.
    pub plain_accuracy: Option<f64>,
    /// Mean cross-entropy on the images, in nats.
    pub loss: f64,
    /// `[images, classes]`.
    pub logits: ArrayView2<'a, f32>,
    /// How far the model's probabilities are to be believed.
    pub calibration: Calibration,
    /// The images that the model was asked for, with their labels.
    pub images: &'a Images,
    /// The validation images and their logits, where these are others.
    pub validation: Option<(&'a Images, ArrayView2<'a, f32>)>,
    /// The folder below which the files of the images are, if they are from files.
    pub folder: Option<&'a Path>,
    /// Name of these images: `test` or `validation`.
    pub set: &'a str,
    /// How many numbers were trained.
    pub parameters: usize,
    /// The text of `settings.toml`.
    pub settings: &'a str,
    /// What there is to see inside the model, as sections of a page.
    pub inside: &'a str,
}

/// The files that [`RunReport::write`] writes.
pub const FILES: [&str; 10] = [
    "report.html",
    "confusion.png",
    "confusion-normalised.png",
    "confusion.csv",
    "classes.csv",
    "confused.csv",
    "samples.png",
    "mistakes.png",
    "predictions.csv",
    WRONG_LABELS,
];

/// The table of likely wrong labels.
pub const WRONG_LABELS: &str = "likely-wrong-labels.csv";

#[cfg(feature = "plots")]
/// How the worst mistakes are chosen.
pub(super) const HIGHEST_LOSS: &str = "highest loss: the label got the least probability";

/// Images on a sheet.
#[cfg(feature = "plots")]
const SHOWN: usize = 24;
#[cfg(feature = "plots")]
const COLUMNS: usize = 6;
/// A matrix of more classes than this is no image any more.
const MOST_IN_MATRIX: usize = 1000;

impl RunReport<'_> {
    /// Writes [`FILES`] into a folder; without mistakes, and with very many classes, some have
    /// nothing to show and are left out.
    ///
    /// # Errors
    /// The first, if some cannot be written; the others are written all the same.
    pub fn write(&self, folder: &Path) -> Result<()> {
        let analysis = Analysis::calibrated(self.logits, &self.images.labels, self.calibration);
        self.write_tables(folder, &analysis).and(self.write_pictures(folder, &analysis))
    }

    /// The images from files whose labels are likely wrong, the most likely first.
    pub(super) fn likely_wrong(&self, analysis: &Analysis) -> Vec<(&Images, Prediction)> {
        let mut sets = vec![(self.images, analysis.clone())];
        sets.extend(self.validation.map(|(images, logits)| {
            (images, Analysis::calibrated(logits, &images.labels, self.calibration))
        }));
        let analyses: Vec<&Analysis> = sets.iter().map(|(_, analysis)| analysis).collect();
        let found = suspects(&analyses).into_iter().map(|suspect| {
            let (images, analysis) = &sets[suspect.set];
            (*images, analysis.predictions[suspect.place])
        });
        found.filter(|(images, prediction)| images.file(prediction.index).is_some()).collect()
    }

    #[cfg(not(feature = "plots"))]
    fn write_pictures(&self, _folder: &Path, _analysis: &Analysis) -> Result<()> {
        Ok(())
    }

    #[cfg(feature = "plots")]
    fn write_pictures(&self, folder: &Path, analysis: &Analysis) -> Result<()> {
        let matrix = |name: &str, cells: Cells| match self.classes.len() <= MOST_IN_MATRIX {
            true => {
                confusion::draw(folder.join(name), self.title, self.classes, &analysis.confusion(), cells)
            }
            false => Ok(()),
        };
        let title = format!("{}: {} images, some of each class", self.title, self.set);
        let samples = self.draw_sheet(&folder.join("samples.png"), &title, &analysis.spread(SHOWN));
        let mistakes = analysis.mistakes();
        let title = format!("{}: {HIGHEST_LOSS}", self.title);
        let shown = &mistakes[..mistakes.len().min(SHOWN)];
        let results = [
            matrix("confusion.png", Cells::Counts),
            matrix("confusion-normalised.png", Cells::Shares),
            samples,
            self.draw_sheet(&folder.join("mistakes.png"), &title, shown),
            page::write(folder.join("report.html"), self, analysis),
        ];
        results.into_iter().collect()
    }

    fn write_tables(&self, folder: &Path, analysis: &Analysis) -> Result<()> {
        let name = |class: usize| cell(&self.classes[class]);
        let optional = |value: Option<f64>| value.map(|value| value.to_string()).unwrap_or_default();
        let rows = self.classes.iter().zip(&analysis.classes).map(|(class, f)| {
            let (precision, recall) = (optional(f.precision), optional(f.recall));
            format!("{},{},{precision},{recall},{}", cell(class), f.images, optional(f.f1()))
        });
        csv::write(&folder.join("classes.csv"), "class,images,precision,recall,f1", rows)?;
        let rows = analysis.confused().into_iter().map(|(label, predicted, count)| {
            let share = count as f64 / analysis.classes[label].images as f64;
            format!("{},{},{count},{share}", name(label), name(predicted))
        });
        csv::write(&folder.join("confused.csv"), "label,predicted,images,share_of_label", rows)?;
        let rows = analysis.predictions.iter().map(|p| {
            let Prediction { index, label, predicted, probability, .. } = *p;
            let file = self.images.file(index).map(cell).unwrap_or_default();
            format!("{index},{},{},{probability},{},{file}", name(label), name(predicted), p.loss())
        });
        csv::write(&folder.join("predictions.csv"), "index,label,predicted,probability,loss,file", rows)?;
        let rows = self.likely_wrong(analysis).into_iter().map(|(images, p)| {
            let file = images.file(p.index).map(cell).unwrap_or_default();
            format!("{file},{},{},{}", name(p.label), name(p.predicted), p.probability)
        });
        csv::write(&folder.join(WRONG_LABELS), "file,label,predicted,confidence", rows)?;
        if self.classes.len() > MOST_IN_MATRIX {
            return Ok(());
        }
        let header: String = self.classes.iter().map(|class| format!(",{}", cell(class))).collect();
        let matrix = analysis.confusion();
        let rows = self.classes.iter().zip(matrix.outer_iter()).map(|(class, row)| {
            let counts: String = row.iter().map(|count| format!(",{count}")).collect();
            format!("{}{counts}", cell(class))
        });
        csv::write(&folder.join("confusion.csv"), &format!("label{header}"), rows)
    }

    #[cfg(feature = "plots")]
    fn draw_sheet(&self, path: &Path, title: &str, predictions: &[Prediction]) -> Result<()> {
        let images = predictions.iter().map(|p| self.images.image(p.index));
        let images = images.collect::<Result<Vec<_>>>()?;
        let mut samples = Vec::new();
        for (p, pixels) in predictions.iter().zip(&images) {
            samples.push(Sample {
                label_probability: (!p.is_right()).then_some(p.label_probability),
                pixels,
                size: self.images.size,
                what: samples::PREDICTION,
                predicted: &self.classes[p.predicted],
                probability: p.probability,
                label: Some(&self.classes[p.label]),
            });
        }
        if samples.is_empty() { Ok(()) } else { samples::draw(path, Some(title), &samples, COLUMNS) }
    }

    /// Measures of the logits, beside accuracy and loss.
    pub fn measures(&self) -> Measures {
        Measures::of(self.logits, &self.images.labels, self.calibration)
    }

    /// Writes `result.json`: the figures that runs are compared by.
    ///
    /// # Errors
    /// If it cannot be written.
    pub fn write_result(&self, path: &Path) -> Result<()> {
        let seconds: f64 = self.history.iter().map(|row| row.seconds).sum();
        let mut result = json!({
            "title": self.title,
            "epochs": self.history.len(),
            "seconds": seconds,
            "parameters": self.parameters,
        });
        let set = self.set;
        result[format!("{set}_accuracy")] = json!(self.accuracy);
        result[format!("{set}_accuracy_without_flip")] = json!(self.plain_accuracy.unwrap_or(self.accuracy));
        result[format!("{set}_loss")] = json!(self.loss);
        self.measures().entries_of(set).into_iter().for_each(|(name, value)| result[name] = value);
        let text = serde_json::to_string_pretty(&result).map_err(|error| Error::file(path, error))?;
        write_atomic(path, |file| writeln!(file, "{text}"))
    }
}
