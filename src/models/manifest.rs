//! `--pretrained auto`: weights out of the cache, or from where `weights/pretrained.toml` says they
//! are.

use std::fs;
use std::path::{Path, PathBuf};

use serde::Deserialize;

use super::pretrained::Attributes;
use super::{Architecture, PaddingStyle};
use crate::data;
use crate::data::cache;
use crate::data::download::{self, Remote};
use crate::error::{Error, Result};
use crate::files::write_atomic;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Manifest {
    weights: Vec<ManifestEntry>,
}

/// Weights of a model.
#[derive(Clone, Deserialize)]
#[serde(deny_unknown_fields)]
struct ManifestEntry {
    model: &'static Architecture,
    /// Its name in the cache.
    file: String,
    urls: Vec<String>,
    bytes: Option<u64>,
    /// No more than this is downloaded, whatever the server says.
    most_bytes: u64,
    sha256: Option<String>,
    licence: String,
    names: String,
    /// Padding of a model that can be padded both ways.
    padding: Option<String>,
    bn_epsilon: f32,
    /// Statistics of pixels between 0 and 1.
    mean: [f32; 3],
    std: [f32; 3],
    /// Advice where they cannot be downloaded.
    otherwise: String,
}

fn entries() -> Vec<ManifestEntry> {
    let text = include_str!("../../weights/pretrained.toml");
    let parsed: std::result::Result<Manifest, _> = toml::from_str(text);
    parsed
        .map_or_else(|error| unreachable!("a test reads the manifest: {error}"), |manifest| manifest.weights)
}

/// The weights of a model, and what they do not say about themselves: what `tools/pretrained.py`
/// put into the cache, else what the manifest names, downloaded if it is not there.
///
/// # Errors
/// If they are not in the cache and cannot be downloaded; says what can be done.
pub fn find(model: &Architecture, options: &data::Options) -> Result<(PathBuf, Attributes)> {
    let cache = cache::folder(&options.cache)?;
    let converted = cache.join(format!("{model}.safetensors"));
    if converted.is_file() {
        cache::check_own(&converted)?;
        return Ok((converted, Attributes::default()));
    }
    let Some(entry) = entries().into_iter().find(|entry| entry.model == model) else {
        let problem =
            format!("no pretrained weights of a {model} are known; name a file by `pretrained` FILE");
        return Err(Error::Usage(problem));
    };
    let path = cache.join(&entry.file);
    cache::check_own(&path)?;
    let attributes = Attributes {
        padding: entry.padding.as_deref().and_then(PaddingStyle::named),
        epsilon: Some(entry.bn_epsilon),
        mean: Some(entry.mean.map(|value| 255.0 * value)),
        std: Some(entry.std.map(|value| 255.0 * value)),
    };
    if !path.is_file() {
        fetch(&entry, cache, options).map_err(|error| match error {
            Error::Interrupted => Error::Interrupted,
            error => Error::Failed(unavailable(&entry, cache, &error)),
        })?;
    }
    Ok((path, attributes))
}

fn fetch(entry: &ManifestEntry, cache: &Path, options: &data::Options) -> Result<()> {
    if options.offline {
        return Err(Error::Failed("CIFAR_ENGINE_OFFLINE forbids to download them".into()));
    }
    let pin = cache.join(format!("{}.sha256", entry.file));
    let pinned = fs::read_to_string(&pin).ok().map(|hash| hash.trim().to_string());
    let mut remote = Remote {
        file_name: entry.file.clone(),
        urls: entry.urls.clone(),
        bytes: entry.bytes.unwrap_or(0),
        sha256: entry.sha256.clone().or(pinned),
        ..options.remote.clone()
    };
    if entry.bytes.is_none() {
        remote.bytes = download::length(&entry.urls[0], &remote)?;
        if remote.bytes > entry.most_bytes {
            let (url, most) = (download::without_secrets(&entry.urls[0]), entry.most_bytes);
            let problem = format!("{url}: offers {} bytes, over the limit of {most}", remote.bytes);
            return Err(Error::Failed(problem));
        }
    }
    let note = format!("{} weights in {}'s names, licence {}", entry.model, entry.names, entry.licence);
    options.watch.note(&note);
    let path = download::fetch(&remote, cache, options.watch)?;
    let hash = download::sha256(&path)?;
    write_atomic(pin, |file| std::io::Write::write_all(file, hash.as_bytes()))
}

fn unavailable(entry: &ManifestEntry, cache: &Path, error: &Error) -> String {
    let ManifestEntry { model, file, urls, otherwise, .. } = entry;
    let cache = cache.display();
    format!(
        "there are no pretrained weights of {model} in {cache}, and they could not be downloaded: {error}; save {} as {file} there, \
         or {otherwise}, or name a file by `pretrained` FILE",
        urls[0]
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::models::MODELS;
    use crate::models::mobilenet_v2::MOBILENET_V2;

    #[test]
    fn the_manifest_makes_sense() {
        let models: Vec<&Architecture> = entries().iter().map(|entry| entry.model).collect();
        let published = MODELS.iter().filter(|model| model.published.is_some()).copied();
        assert_eq!(models, published.collect::<Vec<_>>());
        for entry in entries() {
            let padding = entry.padding.as_deref().map(PaddingStyle::named);
            assert_eq!(padding.is_some_and(|named| named.is_some()), entry.model.has_variants);
            assert!(entry.bn_epsilon > 0.0 && !entry.otherwise.is_empty());
            assert!(entry.urls.iter().all(|url| url.starts_with("https://")) && !entry.urls.is_empty());
            assert!((1 << 20..64 << 20).contains(&entry.most_bytes));
            assert!(entry.file.ends_with(".safetensors") && !entry.file.contains('/'));
        }
    }

    #[test]
    fn the_cache_comes_first_and_its_absence_says_what_to_do() {
        let folder = tempfile::tempdir().unwrap();
        let cache = folder.path().to_path_buf();
        let options = data::Options { cache: Some(cache.clone()), offline: true, ..data::Options::default() };
        let message = find(&MOBILENET_V2, &options).unwrap_err().to_string();
        for part in ["huggingface.co", "tools/pretrained.py mobilenet-v2", "`pretrained` FILE", "OFFLINE"] {
            assert!(message.contains(part) && !message.contains('\n'), "{message}");
        }
        fs::write(cache.join("mobilenetv2_100.ra_in1k.safetensors"), "x").unwrap();
        let (path, attributes) = find(&MOBILENET_V2, &options).unwrap();
        assert!(path.ends_with("mobilenetv2_100.ra_in1k.safetensors"));
        assert_eq!(attributes.padding, Some(PaddingStyle::Symmetric));
        fs::write(cache.join("mobilenet-v2.safetensors"), "x").unwrap();
        let (path, attributes) = find(&MOBILENET_V2, &options).unwrap();
        assert!(path.ends_with("mobilenet-v2.safetensors") && attributes == Attributes::default());
    }
}
