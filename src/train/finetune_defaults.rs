//! Defaults of fine-tuning, by the number of images it trains on.
//!
//! | images | batch | classifier | layers, epochs | their rate | statistics |
//! |---|---|---|---|---|---|
//! | to 2,000 | 16 | fitted, 5 epochs at 1e-4 | 9 to 50, for 200 steps | 2e-4 | stored |
//! | to 10,000 | 64 | fitted, 5 epochs at 1e-4 | 9 | 0.02, blocks 0.01 | of the batch |
//! | more | 64 | from zero, 3 epochs at 2e-3 | 9 | 0.02, blocks 0.01 | of the batch |
//!
//! The more images, the further the layers may move from what they know. `docs/images.md` has what
//! this was chosen by.

use super::settings::Settings;
use super::settings::finetune::Finetune;
use crate::models::mobilenet_v1::MOBILENET_V1;

/// Up to so many images steps are small, and batch normalisation keeps its statistics.
const VERY_FEW: usize = 2_000;

/// Up to so many images the classifier is fitted; beyond, epochs have enough steps to find it.
const FEW: usize = 10_000;

/// A number of images to which the defaults of large data belong.
pub const MANY: usize = FEW + 1;

/// Steps that the layers are trained for at least, if that takes no more than [`MOST_EPOCHS`].
const STEPS: usize = 200;
const MOST_EPOCHS: usize = 50;

/// The settings to train on so many images with, where so many epochs are chosen.
pub fn defaults(images: usize, epochs: Option<usize>) -> Settings {
    let (few, very_few) = (images <= FEW, images <= VERY_FEW);
    let many = Finetune::default();
    let (batch_size, rate, backbone) = if very_few { (16, 2e-4, 1.0) } else { (64, 0.02, many.backbone) };
    let head_epochs = if few { 5 } else { many.head_epochs };
    let layers = STEPS.div_ceil(images.div_ceil(batch_size).max(1)).clamp(9, MOST_EPOCHS);
    // A chosen number of epochs leaves room for both stages.
    let head = epochs.map_or(head_epochs, |epochs| epochs.div_ceil(4).min(head_epochs));
    let epochs = epochs.unwrap_or(head_epochs + layers);
    let finetune = Finetune {
        head_epochs: head,
        head_rate: if few { 1e-4 } else { many.head_rate },
        backbone,
        fit_head: few,
        frozen_statistics: very_few,
        ..many
    };
    Settings {
        model: &MOBILENET_V1,
        epochs,
        batch_size: batch_size.min(images.max(1)),
        rate,
        weight_decay: 1e-4,
        dropout: 0.2,
        validation: 2500,
        finetune: Some(finetune),
        ..Settings::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Batch size, epochs, those of the classifier, rate, and whether it is fitted and statistics
    /// are kept.
    fn chosen(images: usize, epochs: Option<usize>) -> (usize, usize, usize, f32, bool, bool) {
        let Settings { batch_size, epochs, rate, finetune: Some(finetune), .. } = defaults(images, epochs)
        else {
            unreachable!("these are settings of a fine-tuning")
        };
        let Finetune { head_epochs, fit_head, frozen_statistics, .. } = finetune;
        (batch_size, epochs, head_epochs, rate, fit_head, frozen_statistics)
    }

    #[test]
    fn few_images_take_small_steps_and_many_epochs() {
        assert_eq!(chosen(5, None), (5, 55, 5, 2e-4, true, true));
        assert_eq!(chosen(54, None), (16, 55, 5, 2e-4, true, true));
        assert_eq!(chosen(162, None), (16, 24, 5, 2e-4, true, true));
        assert_eq!(chosen(2_000, None), (16, 14, 5, 2e-4, true, true));
        assert_eq!(chosen(9_000, None), (64, 14, 5, 0.02, true, false));
        assert_eq!(chosen(47_500, None), (64, 12, 3, 0.02, false, false));
    }

    #[test]
    fn a_chosen_number_of_epochs_leaves_room_for_both_stages() {
        for images in [54, 47_500] {
            let heads = [1, 2, 4, 5, 8].map(|epochs| chosen(images, Some(epochs)).2);
            assert_eq!(heads, [1, 1, 1, 2, 2]);
            assert_eq!(chosen(images, Some(2)).1, 2);
        }
    }

    #[test]
    fn what_is_chosen_makes_sense_for_any_number() {
        for images in [0, 1, 2, 15, 16, 17, 1_999, 2_001, 10_000, 10_001, 1_000_000] {
            let settings = defaults(images, None);
            settings.check().unwrap();
            assert!(settings.batch_size <= images.max(1));
        }
    }
}
