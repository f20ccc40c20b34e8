//! The look inside a model as sections of a page, with its pictures in it.

use std::fmt::Write;

use image::imageops::{self, FilterType};
use image::{ImageBuffer, Luma, Rgb, RgbImage};

use super::look::{Activation, Asked, ClassMap, Filters, Look, Silent, Worth};
use crate::data::{CHANNELS, Images};
use crate::error::{Error, Result};
use crate::exec::Device;
use crate::models::LoadedModel;
use crate::report::analysis::Analysis;
use crate::report::norms::ParameterNorms;
use crate::report::page::{embedded, escape};
use crate::text::counted;

/// Channels of a layer that are shown.
const MOST_CHANNELS: usize = 16;
/// Filters that are shown.
const MOST_FILTERS: usize = 64;
/// Side of a picture of a channel or a map, in pixels, at least.
const SIDE: usize = 64;
/// Share of the heat in a picture with a map.
const HEAT: f32 = 0.55;

/// Number of mistakes of which maps are made.
const MISTAKES: usize = 8;
/// Images on which silent channels are looked for.
const SAMPLE: usize = 128;

/// A look at a model that was measured on images: at its worst mistakes, and at layers of the
/// model's own choice unless some are named; and its sections.
///
/// # Errors
/// As for [`Look::at`] and [`sections`].
pub fn measured(
    model: &LoadedModel,
    device: &mut dyn Device,
    (images, analysis): (&Images, &Analysis),
    layers: &[String],
    goes_on: &mut dyn FnMut() -> Result<()>,
) -> Result<(Look, String)> {
    let Worth { images: chosen, classes } = Worth::of(analysis, MISTAKES);
    let (sample, shown) = (images.clone().part(SAMPLE), images.subset(&chosen));
    let asked = Asked { sample: &sample, images: &shown, classes: &classes, layers };
    let look = Look::at(model, device, &asked, goes_on)?;
    let names = &model.spec.classes;
    let caption = |map: &ClassMap| {
        let prediction = analysis.predictions.iter().find(|p| p.index as u32 == chosen[map.image]);
        let Some(prediction) = prediction else { return String::new() };
        let (class, mark) = if map.class == prediction.label { ("right", "✓") } else { ("wrong", "✗") };
        let probability = match map.class == prediction.predicted {
            true => prediction.probability,
            false => prediction.label_probability,
        };
        let file = shown.file(map.image).map(|file| format!("<br>{}", escape(file))).unwrap_or_default();
        let said = if map.class == prediction.predicted { "predicted" } else { "label" };
        format!(
            "<span class=\"{class}\">{} {:.0}&nbsp;% {mark}</span><br><span class=\"muted\">{said}{file}</span>",
            escape(&names[map.class]),
            100.0 * probability
        )
    };
    let sections = sections(&look, &shown, &caption)?;
    Ok((look, sections))
}

/// The sections of a look at a model: what each shows, and its scale, stands in it. `images` are
/// those that were looked into, `caption` says in HTML what a map is.
///
/// # Errors
/// If a picture cannot be encoded.
pub fn sections(look: &Look, images: &Images, caption: &dyn Fn(&ClassMap) -> String) -> Result<String> {
    let mut body = String::new();
    if !look.maps.is_empty() {
        maps(&mut body, look, images, caption)?;
    }
    if !look.activations.is_empty() {
        body.push_str("<h2>What layers make of an image</h2><div class=\"sheet\">");
        figure(&mut body, &picture_of(images, 0)?, "the image", "the image")?;
        body.push_str("</div>");
        look.activations.iter().try_for_each(|activation| channels(&mut body, activation))?;
    }
    if let Some(filters) = &look.filters {
        first_filters(&mut body, filters)?;
    }
    silent(&mut body, look);
    Ok(body)
}

fn figure(body: &mut String, picture: &RgbImage, alt: &str, caption: &str) -> Result<()> {
    let source = embedded(picture)?;
    let alt = escape(alt);
    let _ = writeln!(body, "<figure><img alt=\"{alt}\" src=\"{source}\">{caption}</figure>");
    Ok(())
}

/// An image as a picture.
///
/// # Errors
/// If its bytes do not fill it.
pub(crate) fn picture_of(images: &Images, index: usize) -> Result<RgbImage> {
    let side = images.size as u32;
    let picture = RgbImage::from_raw(side, side, images.image(index)?.into_owned());
    picture.ok_or_else(|| Error::Failed("the bytes of an image do not fill it".into()))
}

fn maps(
    body: &mut String,
    look: &Look,
    images: &Images,
    caption: &dyn Fn(&ClassMap) -> String,
) -> Result<()> {
    let layer = escape(look.map_layer.as_deref().unwrap_or_default());
    let _ = write!(
        body,
        "<h2>Where classes are seen</h2><p class=\"muted\">Grad-CAM of layer {layer}: the yellower, the more a place \
         speaks for the class below; each picture has its own scale. Places that speak against it are left as they \
         are.</p><div class=\"sheet\">"
    );
    for map in &look.maps {
        let picture = heated(&picture_of(images, map.image)?, &map.map);
        figure(body, &picture, &format!("map of image {}", map.image), &caption(map))?;
    }
    body.push_str("</div>");
    Ok(())
}

/// The image with the heat of a map over it.
pub(crate) fn heated(image: &RgbImage, map: &[Vec<f32>]) -> RgbImage {
    let (height, width) = (map.len(), map.first().map_or(0, Vec::len));
    let most = map.iter().flatten().copied().fold(0.0f32, f32::max).max(f32::MIN_POSITIVE);
    let small =
        ImageBuffer::from_fn(width as u32, height as u32, |x, y| Luma([map[y as usize][x as usize] / most]));
    let side = image.width().max(2 * SIDE as u32);
    let heat = imageops::resize(&small, side, side, FilterType::Triangle);
    let large = imageops::resize(image, side, side, FilterType::Nearest);
    ImageBuffer::from_fn(side, side, |x, y| {
        let Luma([heat]) = *heat.get_pixel(x, y);
        let heat = heat.clamp(0.0, 1.0);
        // From the image itself by red to yellow.
        let colour = [255.0, 255.0 * heat, 0.0];
        let Rgb(pixel) = *large.get_pixel(x, y);
        let share = HEAT * heat.sqrt();
        Rgb([0, 1, 2].map(|c| (f32::from(pixel[c]) * (1.0 - share) + colour[c] * share).round() as u8))
    })
}

fn channels(body: &mut String, activation: &Activation) -> Result<()> {
    let Activation { layer, dims: [height, width, count], smallest, largest, zeros, values } = activation;
    let shown = (*count).min(MOST_CHANNELS);
    let (layer, all) = (escape(layer), counted(*count, "channel"));
    let first =
        if shown < *count { format!(", of which the first {shown} are shown") } else { String::new() };
    let _ = write!(
        body,
        "<p>{layer} <span class=\"muted\">{height} x {width}, {all}{first}; black is {smallest:.2}, white {largest:.2}; \
         {:.0} % are zero</span></p><div class=\"sheet small\">",
        100.0 * zeros
    );
    let range = (largest - smallest).max(f32::MIN_POSITIVE);
    let values: Vec<f32> = values.iter().copied().collect();
    for channel in 0..shown {
        let picture = ImageBuffer::from_fn(*width as u32, *height as u32, |x, y| {
            let value = values[(y as usize * width + x as usize) * count + channel];
            Rgb([(255.0 * (value - smallest) / range).round() as u8; CHANNELS])
        });
        figure(body, &picture, &format!("channel {channel}"), &channel.to_string())?;
    }
    body.push_str("</div>");
    Ok(())
}

fn first_filters(body: &mut String, filters: &Filters) -> Result<()> {
    let Filters { layer, dims: [height, width, count], largest, weights } = filters;
    let shown = (*count).min(MOST_FILTERS);
    let of = if shown < *count { format!(", the first {shown} of {count}") } else { String::new() };
    let _ = write!(
        body,
        "<h2>First filters</h2><p class=\"muted\">The weights of layer {} for red, green and blue{of}; grey is 0, full \
         colour {largest:.2}.</p><div class=\"sheet small\">",
        escape(layer)
    );
    let weights: Vec<f32> = weights.iter().copied().collect();
    for filter in 0..shown {
        let picture = ImageBuffer::from_fn(*width as u32, *height as u32, |x, y| {
            let first = (y as usize * width + x as usize) * CHANNELS;
            let weight = |c: usize| weights[(first + c) * count + filter] / largest.max(f32::MIN_POSITIVE);
            Rgb([0, 1, 2].map(|c| (127.5 + 127.5 * weight(c)).round() as u8))
        });
        figure(body, &picture, &format!("filter {filter}"), &filter.to_string())?;
    }
    body.push_str("</div>");
    Ok(())
}

fn silent(body: &mut String, look: &Look) {
    if look.silent.is_empty() {
        return;
    }
    let _ = write!(
        body,
        "<h2>Channels that never answer</h2><p class=\"muted\">Zero everywhere on {}; of layers that cut at \
         zero.</p><div class=\"wide\"><table><thead><tr><th>layer<th>channels<th>silent</thead><tbody>",
        counted(look.images, "image")
    );
    for Silent { layer, channels, silent } in &look.silent {
        let _ = write!(body, "<tr><td>{}<td>{channels}<td>{}", escape(layer), silent.len());
    }
    body.push_str("</tbody></table></div>");
}

/// A section with the norms of a training's weights by epoch: a curve a tensor, of how far an epoch
/// moved it as a share of itself. Biases are left out.
pub fn norms(rows: &[ParameterNorms]) -> String {
    let is_shown = |row: &&ParameterNorms| row.parameter.ends_with(".weight") && row.update.is_some();
    let mut tensors: Vec<(&str, Vec<&ParameterNorms>)> = Vec::new();
    for row in rows.iter().filter(is_shown) {
        match tensors.iter_mut().find(|(name, _)| *name == row.parameter) {
            Some((_, known)) => known.push(row),
            None => tensors.push((&row.parameter, vec![row])),
        }
    }
    if tensors.is_empty() {
        return String::new();
    }
    let mut body = String::from(
        "<h2>Weights by epoch</h2><p class=\"muted\">By how much of its own norm an epoch moved a tensor: the curve \
         runs from one thousandth, at the bottom, to ten times. A healthy layer moves less and less; one that does \
         not move does not learn. norms.csv has all parameters, and the norms of their moments.</p>\
         <div class=\"wide\"><table><thead><tr><th>tensor<th>norm<th>moved, first epoch<th>last epoch\
         <th class=\"text\">all epochs</thead><tbody>",
    );
    let share = |row: &ParameterNorms| row.update.unwrap_or(0.0) / row.weight.max(f64::MIN_POSITIVE);
    for (name, rows) in &tensors {
        let (first, last) = (rows[0], rows[rows.len() - 1]);
        let _ = write!(
            body,
            "<tr><td>{}<td>{:.2}<td>{:.1} %<td>{:.1} %<td class=\"text\">{}",
            escape(name),
            last.weight,
            100.0 * share(first),
            100.0 * share(last),
            spark(&rows.iter().map(|row| share(row)).collect::<Vec<_>>())
        );
    }
    body + "</tbody></table></div>"
}

/// A small curve of shares, from 0.001 to 10 on a logarithmic scale.
fn spark(shares: &[f64]) -> String {
    let (width, height) = (140.0, 26.0);
    let step = width / (shares.len().max(2) - 1) as f64;
    let mut points = String::new();
    for (place, share) in shares.iter().enumerate() {
        let y = height * (1.0 - (share.max(1e-3).log10() + 3.0).min(4.0) / 4.0);
        let _ = write!(points, "{:.1},{y:.1} ", place as f64 * step);
    }
    format!(
        "<svg class=\"spark\" viewBox=\"-2 -2 144 30\"><polyline class=\"train\" points=\"{points}\"/></svg>"
    )
}
