//! `predict --explain`: pictures of where in images their classes are seen.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use image::imageops::{self, FilterType};

use super::signals::goes_on;
use crate::data::Images;
use crate::error::{Error, Result, path_text};
use crate::exec::Device;
use crate::files::{advice, check_output, is_within};
use crate::inside::look::{ClassMap, class_maps};
use crate::inside::page::{heated, picture_of};
use crate::models::LoadedModel;
use crate::report::samples::{self, HEAT_MAP, NO_HEAT, PREDICTION, Sample};

/// Images whose maps are made at once: their gradients need memory.
const BATCH: usize = 16;

/// The folder of the pictures.
pub struct HeatMaps<'a> {
    folder: PathBuf,
    /// Names of pictures that are there.
    taken: BTreeSet<String>,
    /// Images that are read, and so must stay.
    read: &'a [PathBuf],
}

impl<'a> HeatMaps<'a> {
    /// Makes the folder, if it is not there. `asked` are the images and folders of them that a user
    /// has named, `read` all images in these.
    ///
    /// # Errors
    /// If it cannot be made, or lies in one of these folders: pictures in it would be taken for
    /// images of a class.
    pub fn new(folder: &Path, asked: &[PathBuf], read: &'a [PathBuf]) -> Result<HeatMaps<'a>> {
        if let Some(around) = asked.iter().find(|asked| is_within(folder, asked)) {
            let problem = format!(
                "lies in {}, whose images are read; choose another with --explain",
                path_text(around)
            );
            return Err(Error::file(folder, problem));
        }
        if folder.exists() && !folder.is_dir() {
            return Err(Error::file(folder, "is not a folder; choose another with --explain"));
        }
        fs::create_dir_all(folder)
            .map_err(|error| Error::file(folder, format!("cannot be created: {}", advice(&error))))?;
        Ok(HeatMaps { folder: folder.to_path_buf(), taken: BTreeSet::new(), read })
    }

    /// Writes a picture of each image of these names, for the class that is predicted with this
    /// probability; returns where.
    ///
    /// # Errors
    /// If the model has no layer with places, the device fails, or a picture cannot be written.
    pub fn write(
        &mut self,
        device: &mut dyn Device,
        model: &LoadedModel,
        (names, images): (&[String], &Images),
        predicted: &[(usize, f32)],
    ) -> Result<Vec<PathBuf>> {
        let mut pictures = Vec::new();
        let places: Vec<u32> = (0..images.len() as u32).collect();
        for places in places.chunks(BATCH) {
            let first = places[0] as usize;
            let (images, predicted) = (images.subset(places), &predicted[first..][..places.len()]);
            let classes: Vec<usize> = predicted.iter().map(|(class, _)| *class).collect();
            let maps = class_maps(model, device, &images, &classes, &mut goes_on)?;
            if maps.is_empty() {
                let problem =
                    "no layer of this model has places, so nothing shows where it looks: leave out --explain";
                return Err(Error::Usage(problem.into()));
            }
            for map in maps {
                let name = &names[first + map.image];
                pictures.push(self.draw(model, (name, &images), &map, predicted[map.image].1)?);
            }
        }
        Ok(pictures)
    }

    fn draw(
        &mut self,
        model: &LoadedModel,
        (name, images): (&str, &Images),
        map: &ClassMap,
        probability: f32,
    ) -> Result<PathBuf> {
        let path = self.free_path(name);
        check_output(&path, self.read)?;
        let plain = picture_of(images, map.image)?;
        let heat = heated(&plain, &map.map);
        let plain = imageops::resize(&plain, heat.width(), heat.height(), FilterType::Nearest);
        let class = &model.spec.classes[map.class];
        let unsure = model.spec.calibration.is_unsure(probability) == Some(true);
        let predicted = if unsure { format!("unsure: {class}") } else { class.clone() };
        // The map is of the class, whether the model is sure of it or not.
        let speaks = map.map.iter().flatten().any(|&heat| heat > 0.0);
        let what = if speaks { HEAT_MAP } else { NO_HEAT };
        let pictures = [(&plain, PREDICTION, &predicted), (&heat, what, class)];
        let shown = pictures.map(|(picture, what, predicted)| Sample {
            pixels: picture.as_raw(),
            size: picture.width() as usize,
            what,
            predicted,
            probability,
            label: None,
            label_probability: None,
        });
        samples::draw(&path, Some(name), &shown, shown.len())?;
        Ok(path)
    }

    /// Where the picture of an image goes: under its own name, with a number where several are
    /// called so.
    fn free_path(&mut self, image: &str) -> PathBuf {
        let name = match image {
            "-" => "standard-input".into(),
            path => Path::new(path)
                .file_name()
                .map_or("image".into(), |name| path_text(Path::new(name)).into_owned()),
        };
        let numbered = |number: usize| match number {
            1 => format!("{name}-explained.png"),
            number => format!("{name}-{number}-explained.png"),
        };
        let free = (1..).map(numbered).find(|name| !self.taken.contains(name)).unwrap_or_default();
        self.taken.insert(free.clone());
        self.folder.join(free)
    }
}
