//! The fastest tiles of a GPU, kept on disk so that each product is timed once.

use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::files::{VERSION, keep, kept_path, read_kept};
use crate::ops::linear::tile::{TILES, TileShape};

/// The largest file of tiles: of some ten thousand products.
const MOST_BYTES: u64 = 8 << 20;

/// The tiles of a GPU, by the keys of their products, in a file.
#[derive(Clone, Debug)]
pub struct KeptTiles {
    path: PathBuf,
    /// Name of the GPU.
    device: String,
    /// Its driver, with the version.
    driver: String,
}

/// A file, with all that its tiles are of.
#[derive(Serialize, Deserialize)]
struct File {
    program: String,
    device: String,
    driver: String,
    tiles: BTreeMap<String, String>,
}

impl KeptTiles {
    /// Those of a GPU and its driver, in a folder: another driver is another GPU.
    pub fn new(folder: &Path, device: &str, driver: &str) -> KeptTiles {
        let path = kept_path(folder, &[device, driver]);
        KeptTiles { path, device: device.into(), driver: driver.into() }
    }

    /// What was kept. A file that is damaged, or another user's, holds none.
    pub fn read(&self) -> HashMap<String, TileShape> {
        let tiles = self.texts().unwrap_or_default().into_iter();
        let shape = |text: &str| TILES.into_iter().find(|tile| tile.to_string() == text);
        tiles.filter_map(|(key, text)| Some((key, shape(&text)?))).collect()
    }

    /// Keeps these, too. Where that cannot be, they are found again.
    pub fn add(&self, tiles: &HashMap<String, TileShape>) {
        let mut all = self.texts().unwrap_or_default();
        all.extend(tiles.iter().map(|(key, tile)| (key.clone(), tile.to_string())));
        let (device, driver) = (self.device.clone(), self.driver.clone());
        keep(&self.path, &File { program: VERSION.into(), device, driver, tiles: all });
    }

    fn texts(&self) -> Option<BTreeMap<String, String>> {
        let file: File = read_kept(&self.path, MOST_BYTES)?;
        let is_of_this = file.program == VERSION && file.device == self.device && file.driver == self.driver;
        is_of_this.then_some(file.tiles)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tiles_are_kept_by_gpu_and_driver_and_damage_costs_only_them() {
        let folder = tempfile::tempdir().unwrap();
        let within = folder.path().join("not there yet");
        let kept = KeptTiles::new(&within, "GPU \"ß\"\n", "driver 1");
        assert!(kept.read().is_empty());
        let [first, second] = [("a", TILES[0]), ("ROWS 3\n\"x\"", TILES[8])].map(|(k, t)| (k.into(), t));
        kept.add(&HashMap::from([first.clone()]));
        kept.add(&HashMap::from([second.clone()]));
        let both = HashMap::from([first, second]);
        assert_eq!(kept.read(), both, "another process may have added some");
        assert!(KeptTiles::new(&within, "GPU \"ß\"\n", "driver 2").read().is_empty());
        let text = std::fs::read_to_string(&kept.path).unwrap();
        std::fs::write(&kept.path, text.replace("32 x 16", "31 x 16")).unwrap();
        assert_eq!(kept.read().len(), 1, "there is no such tile");
        std::fs::write(&kept.path, &text[..text.len() / 2]).unwrap();
        assert!(kept.read().is_empty());
        std::fs::write(&kept.path, text.replace("driver 1", "driver 2")).unwrap();
        assert!(kept.read().is_empty(), "another driver's, by a wrong name");
        kept.add(&both);
        assert_eq!(kept.read(), both);
    }
}
