//! Names that others give the layers of MobileNet v2.
//!
//! The engine's own names, of both generations, are timm's.

use super::mobilenet_v2::STAGES;
use super::pretrained::Names;

/// torchvision's.
pub(super) const TORCHVISION: Names =
    Names { whose: "torchvision's", ours: |name| ours(&BLOCKS_OF_BLOCKS, name) };

/// Names from the time before torchvision had the model: a block is one list of layers, activations
/// counted.
pub(super) const FLAT: Names = Names { whose: "torchvision's", ours: |name| ours(&FLAT_BLOCKS, name) };

/// torchvision's names and ours, `*` being the number of a block: 2 to 17 there, stage and place in
/// it here. Each stands for all tensors of a layer: `.weight`, `.bias`, `.running_mean`,
/// `.running_var`.
const BLOCKS_OF_BLOCKS: [(&str, &str); 15] = [
    ("features.0.0", "conv_stem"),
    ("features.0.1", "bn1"),
    ("features.1.conv.0.0", "blocks.0.0.conv_dw"),
    ("features.1.conv.0.1", "blocks.0.0.bn1"),
    ("features.1.conv.1", "blocks.0.0.conv_pw"),
    ("features.1.conv.2", "blocks.0.0.bn2"),
    ("features.*.conv.0.0", "blocks.*.conv_pw"),
    ("features.*.conv.0.1", "blocks.*.bn1"),
    ("features.*.conv.1.0", "blocks.*.conv_dw"),
    ("features.*.conv.1.1", "blocks.*.bn2"),
    ("features.*.conv.2", "blocks.*.conv_pwl"),
    ("features.*.conv.3", "blocks.*.bn3"),
    ("features.18.0", "conv_head"),
    ("features.18.1", "bn2"),
    ("classifier.1", "classifier"),
];

/// The same for [`FLAT`].
const FLAT_BLOCKS: [(&str, &str); 15] = [
    ("features.0.0", "conv_stem"),
    ("features.0.1", "bn1"),
    ("features.1.conv.0", "blocks.0.0.conv_dw"),
    ("features.1.conv.1", "blocks.0.0.bn1"),
    ("features.1.conv.3", "blocks.0.0.conv_pw"),
    ("features.1.conv.4", "blocks.0.0.bn2"),
    ("features.*.conv.0", "blocks.*.conv_pw"),
    ("features.*.conv.1", "blocks.*.bn1"),
    ("features.*.conv.3", "blocks.*.conv_dw"),
    ("features.*.conv.4", "blocks.*.bn2"),
    ("features.*.conv.6", "blocks.*.conv_pwl"),
    ("features.*.conv.7", "blocks.*.bn3"),
    ("features.18.0", "conv_head"),
    ("features.18.1", "bn2"),
    ("classifier.1", "classifier"),
];

/// Our name of a tensor that has this name by a table; none for a tensor that is not in it.
fn ours(table: &[(&str, &str)], name: &str) -> Option<String> {
    let (layer, tensor) = name.rsplit_once('.')?;
    let exact = table.iter().find(|(theirs, _)| *theirs == layer).map(|(_, ours)| ours.to_string());
    let ours = exact.or_else(|| {
        let (number, _) = layer.strip_prefix("features.")?.split_once('.')?;
        let block = numbered_block(number.parse().ok()?)?;
        let starred = layer.replacen(number, "*", 1);
        let (_, ours) = table.iter().find(|(theirs, _)| *theirs == starred)?;
        Some(ours.replace('*', &block))
    })?;
    Some(format!("{ours}.{tensor}"))
}

/// Block `number` of torchvision, counted through all stages, as stage and place in it.
fn numbered_block(number: usize) -> Option<String> {
    let blocks =
        STAGES.iter().enumerate().flat_map(|(stage, &(blocks, ..))| (0..blocks).map(move |b| (stage, b)));
    let (stage, block) = blocks.skip(1).nth(number.checked_sub(2)?)?;
    Some(format!("{stage}.{block}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn torchvision_names_are_mapped() {
        for (theirs, expected) in [
            ("features.0.0.weight", "conv_stem.weight"),
            ("features.1.conv.2.running_var", "blocks.0.0.bn2.running_var"),
            ("features.2.conv.0.0.weight", "blocks.1.0.conv_pw.weight"),
            ("features.3.conv.1.1.bias", "blocks.1.1.bn2.bias"),
            ("features.4.conv.3.weight", "blocks.2.0.bn3.weight"),
            ("features.17.conv.2.weight", "blocks.6.0.conv_pwl.weight"),
            ("classifier.1.bias", "classifier.bias"),
        ] {
            assert_eq!((TORCHVISION.ours)(theirs).as_deref(), Some(expected));
        }
        for other in
            ["features.18.conv.2.weight", "features.2.conv.4.weight", "features.x.conv.2.weight", "fc"]
        {
            assert_eq!((TORCHVISION.ours)(other), None);
        }
    }
}
