//! What others call the layers of MobileNet v2. The engine's own names, of both generations, are
//! timm's.

use super::mobilenet_v2::STAGES;

/// torchvision's names and ours, `*` being the number of a block: 2 to 17 there, stage and place in
/// it here. Each stands for all tensors of a layer: `.weight`, `.bias`, `.running_mean`,
/// `.running_var`.
const TORCHVISION: [(&str, &str); 15] = [
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

/// The same before torchvision had the model: a block is one list of layers, activations counted.
const FLAT: [(&str, &str); 15] = [
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

/// The table by which a file's tensors are to be renamed; none for timm's names.
pub(super) fn table<'a>(names: impl Iterator<Item = &'a String> + Clone) -> Option<&'static Table> {
    let any = |name: &str| names.clone().any(|other| other == name);
    match names.clone().any(|name| name.starts_with("features.")) {
        true if any("features.2.conv.6.weight") => Some(&FLAT),
        true => Some(&TORCHVISION),
        false => None,
    }
}

/// What training tools put before every name: PyTorch's parallel models and its compiler,
/// Lightning.
const PREFIXES: [&str; 4] = ["module.", "_orig_mod.", "model.", "state_dict."];

/// How much of every name is prefixes of tools.
pub(super) fn prefix<'a>(mut names: impl Iterator<Item = &'a String> + Clone) -> usize {
    let Some(first) = names.next() else { return 0 };
    let mut end = 0;
    while let Some(prefix) = PREFIXES.iter().find(|prefix| first[end..].starts_with(**prefix)) {
        end += prefix.len();
    }
    if names.all(|name| name.starts_with(&first[..end])) { end } else { 0 }
}

/// Their names and ours.
pub(super) type Table = [(&'static str, &'static str)];

/// Our name of a tensor that has this name by a table; none for a tensor that is not in it.
pub(super) fn ours(table: &Table, name: &str) -> Option<String> {
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
    fn prefixes_of_tools_are_found_before_all_names_or_none() {
        let found =
            |names: &[&str]| prefix(names.iter().map(|name| name.to_string()).collect::<Vec<_>>().iter());
        assert_eq!(found(&["module.a", "module.b"]), 7);
        assert_eq!(found(&["module._orig_mod.a", "module._orig_mod.b"]), 17);
        assert_eq!(found(&["model.a", "b"]), 0);
        assert_eq!(found(&["a", "model.a"]), 0);
        assert_eq!(found(&[]), 0);
    }

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
            assert_eq!(ours(&TORCHVISION, theirs).as_deref(), Some(expected));
        }
        for other in
            ["features.18.conv.2.weight", "features.2.conv.4.weight", "features.x.conv.2.weight", "fc"]
        {
            assert_eq!(ours(&TORCHVISION, other), None);
        }
    }
}
