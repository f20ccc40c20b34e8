//! Every shader against its op's own description: it is valid standard WGSL, and its bindings,
//! constants and workgroups are those that the op's dispatches give. Needs no GPU.

mod common;

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use cifar_engine::ops::dispatch::{Bindings, Dispatch, Dispatches, INCLUDE, INCLUDES, MAX_BINDINGS, Operand};
use cifar_engine::selftest::case::Case;
use cifar_engine::selftest::cases;
use naga::back::pipeline_constants::process_overrides;
use naga::proc::Layouter;
use naga::valid::{Capabilities, ModuleInfo, ValidationFlags, Validator};
use naga::{AddressSpace, EntryPoint, GlobalVariable, Module, ShaderStage, StorageAccess};

/// What WebGPU guarantees everywhere.
const MAX_INVOCATIONS: u32 = 256;
const MAX_WORKGROUP_BYTES: u32 = 16_384;
const MAX_GROUPS: u32 = 65_535;

type Outcome = std::result::Result<(), String>;

fn ensure(condition: bool, problem: impl FnOnce() -> String) -> Outcome {
    if condition { Ok(()) } else { Err(problem()) }
}

/// Checks all dispatches of an op.
fn check(work: &Dispatches) -> Outcome {
    ensure(!work.list.is_empty(), || "computes nothing".into())?;
    for dispatch in &work.list {
        check_dispatch(dispatch, work.scratch.len())
            .map_err(|problem| format!("{} {}: {problem}", dispatch.shader.name, dispatch.entry))?;
    }
    Ok(())
}

fn check_dispatch(dispatch: &Dispatch, scratch: usize) -> Outcome {
    let source = dispatch.shader.text();
    let module = naga::front::wgsl::parse_str(&source).map_err(|error| error.emit_to_string(&source))?;
    let info = validate(&module, dispatch.shader.halves)?;
    check_constants(&module, dispatch)?;
    let entry = (ShaderStage::Compute, dispatch.entry);
    let constants = dispatch.constants.iter().map(|(name, value)| (name.to_string(), *value)).collect();
    let (module, info) = process_overrides(&module, &info, Some(entry), &constants)
        .map_err(|error| format!("its constants cannot be set: {error}"))?;
    let index = module.entry_points.iter().position(|point| point.name == dispatch.entry);
    let index = index.ok_or("has no such entry point")?;
    check_bindings(&module, &info, index, dispatch, scratch)?;
    check_workgroups(&module, &info, index, dispatch)
}

/// Without any capability beyond those of standard WebGPU that are needed.
fn validate(module: &Module, halves: Bindings) -> std::result::Result<ModuleInfo, String> {
    let needed = if halves == Bindings::NONE { Capabilities::empty() } else { Capabilities::SHADER_FLOAT16 };
    let mut validator = Validator::new(ValidationFlags::all(), needed);
    validator.validate(module).map_err(|error| format!("is not valid: {:?}", error.into_inner()))
}

/// The op gives every constant, and none that is not there.
fn check_constants(module: &Module, dispatch: &Dispatch) -> Outcome {
    let declared: Vec<&str> = module.overrides.iter().filter_map(|(_, o)| o.name.as_deref()).collect();
    let given: BTreeSet<&str> = dispatch.constants.iter().map(|(name, _)| *name).collect();
    ensure(given.len() == dispatch.constants.len(), || "a constant is given twice".into())?;
    ensure(given == declared.iter().copied().collect(), || {
        format!("declares {declared:?}, is given {given:?}")
    })
}

/// Group 0 holds the bindings of the dispatch and no others, with the access that the operand
/// allows.
fn check_bindings(
    module: &Module,
    info: &ModuleInfo,
    entry: usize,
    dispatch: &Dispatch,
    scratch: usize,
) -> Outcome {
    let count = dispatch.bindings.len();
    ensure(count <= MAX_BINDINGS, || format!("has {count} bindings; WebGPU promises {MAX_BINDINGS}"))?;
    let used = |(handle, variable): (naga::Handle<GlobalVariable>, _)| {
        (!info.get_entry_point(entry)[handle].is_empty()).then_some(variable)
    };
    for variable in module.global_variables.iter().filter_map(used) {
        let Some(binding) = variable.binding else { continue };
        let name = variable.name.as_deref().unwrap_or_default();
        let AddressSpace::Storage { access } = variable.space else {
            return Err(format!("'{name}' is no storage buffer"));
        };
        ensure(binding.group == 0, || format!("'{name}' is not in group 0"))?;
        let operand = dispatch.bindings.get(binding.binding as usize);
        let writes = match operand.ok_or_else(|| format!("'{name}' is bound to nothing"))? {
            Operand::Input(_)
            | Operand::InputPiece(..)
            | Operand::OutputInput(_)
            | Operand::Numbers(_)
            | Operand::BlockNumbers(_) => false,
            Operand::Output(_) => true,
            operand @ (Operand::Scratch(i) | Operand::ScratchInput(i)) => {
                ensure(*i < scratch, || format!("'{name}' is scratch {i} of {scratch}"))?;
                matches!(operand, Operand::Scratch(_))
            }
        };
        let expected = if writes { StorageAccess::LOAD | StorageAccess::STORE } else { StorageAccess::LOAD };
        ensure(access == expected, || format!("'{name}' is {access:?}, its operand {expected:?}"))?;
    }
    Ok(())
}

/// Within the limits that every device has.
fn check_workgroups(module: &Module, info: &ModuleInfo, entry: usize, dispatch: &Dispatch) -> Outcome {
    let EntryPoint { workgroup_size, .. } = &module.entry_points[entry];
    let invocations: u32 = workgroup_size.iter().product();
    ensure(invocations <= MAX_INVOCATIONS && workgroup_size[2] <= 64, || {
        format!("{workgroup_size:?} invocations")
    })?;
    let mut layouter = Layouter::default();
    layouter.update(module.to_ctx()).map_err(|error| error.to_string())?;
    let workgroup = module.global_variables.iter().filter(|(handle, variable)| {
        variable.space == AddressSpace::WorkGroup && !info.get_entry_point(entry)[*handle].is_empty()
    });
    let bytes: u32 = workgroup.map(|(_, variable)| layouter[variable.ty].size.next_multiple_of(16)).sum();
    ensure(bytes <= MAX_WORKGROUP_BYTES, || format!("needs {bytes} bytes of workgroup memory"))?;
    let groups = dispatch.groups;
    ensure(groups.iter().all(|&n| (1..=MAX_GROUPS).contains(&n)), || format!("{groups:?} workgroups"))
}

/// All dispatches of the ops' cases.
fn works() -> Vec<(Case, Dispatches)> {
    let work = |case: Case| {
        let work = case.op.gpu(&case.types());
        (case, work)
    };
    // What only a CPU's rules make has no shader.
    cases::all().into_iter().map(work).filter(|(_, work)| !work.list.is_empty()).collect()
}

#[test]
fn every_shader_is_what_its_op_says() {
    for (case, work) in works() {
        check(&work).unwrap_or_else(|problem| panic!("{case:?}: {problem}"));
    }
}

/// Of the bindings that may be halves, all, and each alone: so none is taken for another.
#[test]
fn every_shader_is_the_same_of_halves() {
    let mut known = BTreeSet::new();
    for (case, work) in works() {
        for (i, dispatch) in work.list.iter().enumerate() {
            let key = format!("{} {:?} {}", dispatch.shader.name, dispatch.shader.chosen, dispatch.entry);
            let may_be = dispatch.shader.may_be_halves();
            if may_be == Bindings::NONE || !known.insert(key) {
                continue;
            }
            let numbers: Vec<usize> = (0..MAX_BINDINGS).filter(|&number| may_be.has(number)).collect();
            let alone = numbers.iter().map(|&number| Bindings::of([number]));
            for halves in alone.chain([may_be]) {
                let mut work = work.clone();
                work.list[i].shader.halves = halves;
                check(&work).unwrap_or_else(|problem| panic!("{case:?}, {halves:?}: {problem}"));
            }
        }
    }
    assert!(known.len() > 20, "{known:?}");
}

/// A binding is an element of one type, whichever entry point declares it.
#[test]
fn what_is_stored_in_halves_is_declared_so_everywhere() {
    for (_, work) in works() {
        for dispatch in &work.list {
            let (text, may_be) = (dispatch.shader.body(), dispatch.shader.may_be_halves());
            for number in (0..MAX_BINDINGS).filter(|&number| may_be.has(number)) {
                let binding = format!("@binding({number}) ");
                let stored = [format!("Stored{number}>"), format!("StoredValue{number}>")];
                for line in text.lines().filter(|line| line.contains(&binding) && !line.contains("u32>")) {
                    let is_stored = stored.iter().any(|stored| line.contains(stored));
                    assert!(is_stored, "{}: {line}", dispatch.shader.name);
                }
            }
        }
    }
}

#[test]
fn every_shader_is_used_by_a_case() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("shaders");
    let sources: String =
        works().iter().flat_map(|(_, work)| &work.list).map(|d| d.shader.text().replace('\n', "")).collect();
    for folder in [root.clone(), root.join("include")] {
        for file in files(&folder) {
            let text = fs::read_to_string(&file).unwrap();
            let own: String = text.lines().filter(|line| !line.starts_with(INCLUDE)).collect();
            let used = sources.contains(&own);
            assert!(used, "no case of an op runs {}", file.display());
        }
    }
}

/// What a text of WGSL declares: functions, constants, types and variables.
fn declared(text: &str) -> BTreeSet<String> {
    let mut names = BTreeSet::new();
    for line in text.lines() {
        let words: Vec<&str> = words(line).collect();
        let at = words
            .iter()
            .position(|word| ["fn", "override", "const", "alias", "struct", "var"].contains(word));
        let is_outer = !line.starts_with(' ') && !line.starts_with("//");
        // `var<storage, read> x`
        let skipped = ["storage", "read", "read_write", "workgroup", "private"];
        let name = at.and_then(|at| words[at + 1..].iter().find(|word| !skipped.contains(word)));
        names.extend(name.filter(|_| is_outer).map(|name| name.to_string()));
    }
    names
}

fn words(line: &str) -> impl Iterator<Item = &str> {
    line.split(|c: char| !c.is_alphanumeric() && c != '_').filter(|word| !word.is_empty())
}

/// That nothing is missing shows in [`every_shader_is_what_its_op_says`].
#[test]
fn every_include_that_a_shader_names_is_used() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("shaders");
    let includes = |name: &str| INCLUDES.iter().find(|(known, _)| *known == name).unwrap().1;
    assert_eq!(INCLUDES.len(), files(&root.join("include")).len(), "a file of shaders/include is not listed");
    for file in files(&root) {
        let text = fs::read_to_string(&file).unwrap();
        let named: Vec<&str> = text.lines().filter_map(|line| line.strip_prefix(INCLUDE)).collect();
        for names in &named {
            let others = named.iter().filter(|other| other != &names);
            let others: String = others.flat_map(|names| names.split(" | ")).map(includes).collect();
            let used = format!("{text}\n{others}");
            let used: BTreeSet<&str> =
                used.lines().filter(|l| !l.starts_with("//")).flat_map(words).collect();
            for name in names.split(" | ") {
                let is_used = declared(includes(name)).iter().any(|name| used.contains(name.as_str()));
                assert!(is_used, "{} uses nothing of its include '{name}'", file.display());
            }
        }
    }
}

/// The files of a folder of shaders.
fn files(folder: &Path) -> Vec<PathBuf> {
    let files = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    files.filter(|file| file.extension().is_some_and(|extension| extension == "wgsl")).collect()
}

#[test]
fn every_shader_has_a_chapter_in_the_kernel_book() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("shaders");
    let book = fs::read_to_string(root.join("README.md")).unwrap();
    for file in files(&root) {
        let chapter = format!("## {}", file.file_stem().unwrap().to_string_lossy());
        assert!(book.lines().any(|line| line == chapter), "the kernel book has no '{chapter}'");
    }
}

/// One error of each kind, planted into the description or the source of `moving_average`.
#[test]
fn the_check_notices_what_does_not_match() {
    let (_, work) = works().into_iter().find(|(case, _)| case.op.name() == "moving_average").unwrap();
    check(&work).unwrap();
    assert!(check(&Dispatches::default()).unwrap_err().contains("nothing"));
    let describe = |change: &dyn Fn(&mut Dispatch)| {
        let mut work = work.clone();
        change(&mut work.list[0]);
        check(&work).unwrap_err()
    };
    let text = work.list[0].shader.text();
    let with_source = |text: String| {
        let text: &'static str = text.leak();
        describe(&|dispatch| dispatch.shader.source = text)
    };
    let source = |from: &str, to: &str| with_source(text.replace(from, to));
    assert!(describe(&|d| d.constants.clear()).contains("declares"));
    assert!(describe(&|d| d.constants[0].0 = "LENGHT").contains("declares"));
    assert!(describe(&|d| d.constants.push(d.constants[0])).contains("twice"));
    assert!(describe(&|d| d.bindings.swap(0, 1)).contains("its operand"));
    assert!(describe(&|d| d.bindings[1] = Operand::Scratch(0)).contains("scratch 0 of 0"));
    assert!(describe(&|d| d.bindings.truncate(1)).contains("bound to nothing"));
    assert!(describe(&|d| d.bindings = vec![Operand::Input(1); 9]).contains("9 bindings"));
    assert!(describe(&|d| d.groups[1] = 0).contains("workgroups"));
    assert!(describe(&|d| d.groups[0] = 65_536).contains("workgroups"));
    assert!(describe(&|d| d.entry = "start").contains("start"));
    assert!(source("@workgroup_size(256)", "@workgroup_size(257)").contains("invocations"));
    assert!(source("read_write", "read").contains("not valid"));
    let tile = "var<workgroup> tile: array<f32, 4097>;\n@compute";
    let text = text.replace("@compute", tile).replace("average[i] +=", "average[i] += tile[i] +");
    assert!(with_source(text).contains("workgroup memory"));
}
