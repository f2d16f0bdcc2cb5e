//! The shape of the code, held: who may depend on whom, what of Ballista is used, and what the job state machine must
//! not know. ARCHITECTURE.md says it to people, and its table is what this test reads.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

/// A file longer than this has more than one reason to change.
const MAX_LINES: usize = 500;

/// The only crate that may depend on one of Ballista's: `ballista-core`, for its sketches of sort keys.
const BALLISTA_CRATES: [(&str, &str); 1] = [("core", "ballista-core")];

/// The state machine is a function of its events: it has no clock, no network, no files, no randomness.
const NOT_IN_THE_STATE_MACHINE: [&str; 8] =
    ["tokio", "futures", "std::time", "std::fs", "std::net", "std::thread", "rand::", "chrono"];

#[test]
fn given_the_table_in_the_architecture_then_crates_depend_on_nothing_else() {
    let allowed = allowed_dependencies();
    let packages = packages();
    assert_eq!(packages.keys().collect::<Vec<_>>(), allowed.keys().collect::<Vec<_>>(), "crates and the table's rows");
    for (package, folder) in &packages {
        let found: BTreeSet<String> = dependencies(folder).into_iter().filter_map(|name| own(&name)).collect();
        let Some(allowed) = allowed.get(package).and_then(Option::as_ref) else { continue };
        let wrong: Vec<&String> = found.difference(allowed).collect();
        assert!(wrong.is_empty(), "{package} depends on {wrong:?}, which the table in ARCHITECTURE.md does not allow");
    }
}

#[test]
fn ballista_core_is_the_only_crate_of_ballista() {
    let mut found = vec![];
    let folders = packages();
    for folder in folders.values() {
        let name = folder.strip_prefix(workspace()).expect("a folder of the workspace").display().to_string();
        let uses = dependencies(folder).into_iter().filter(|dependency| dependency.starts_with("ballista"));
        found.extend(uses.map(|dependency| (name.clone(), dependency)));
    }
    let allowed: Vec<_> = BALLISTA_CRATES.iter().map(|(name, used)| ((*name).to_owned(), (*used).to_owned())).collect();
    assert_eq!(found, allowed);
    let locked = read(&workspace().join("Cargo.lock"));
    let locked: Vec<&str> = locked.lines().filter(|line| line.starts_with("name = \"ballista")).collect();
    assert_eq!(locked, ["name = \"ballista-core\""], "what Cargo.lock has of Ballista");
}

#[test]
fn given_the_job_state_machine_then_it_imports_nothing_of_the_outside_world() {
    let folder = workspace().join("scheduler/src/job");
    let files: Vec<PathBuf> = rust_files().into_iter().filter(|file| file.starts_with(&folder)).collect();
    assert!(files.len() > 1, "the state machine is not where it was: {}", folder.display());
    for file in files {
        for (number, line) in code_lines(&file) {
            let found = NOT_IN_THE_STATE_MACHINE.iter().find(|name| line.contains(*name));
            assert!(found.is_none(), "{}:{number} uses {}", shown(&file), found.unwrap_or(&""));
        }
    }
}

#[test]
fn given_all_source_files_then_none_is_too_long_or_left_unfinished() {
    // Put together, so that this file does not find itself.
    let marks = [concat!("TO", "DO"), concat!("FIX", "ME"), concat!("dbg", "!"), concat!("#[", "ignore")];
    let mut faults = Vec::new();
    for file in files(&["rs", "py", "sh", "proto", "toml", "md", "yaml", "yml"]) {
        let text = read(&file);
        let is_source =
            ["rs", "py", "sh", "proto"].iter().any(|end| file.extension().is_some_and(|found| found == *end));
        if is_source && text.lines().count() > MAX_LINES {
            faults.push(format!("{} has {} lines; split it", shown(&file), text.lines().count()));
        }
        for (index, line) in text.lines().enumerate() {
            if let Some(mark) = marks.iter().find(|mark| line.contains(*mark)) {
                faults.push(format!("{}:{}: {mark}", shown(&file), index + 1));
            }
        }
    }
    assert!(faults.is_empty(), "{}", faults.join("\n"));
}

// === what is allowed ===

/// The rows of the table under "Crates": package → the packages it may depend on; `None`: all.
fn allowed_dependencies() -> BTreeMap<String, Option<BTreeSet<String>>> {
    let text = read(&workspace().join("ARCHITECTURE.md"));
    let section = text.split("## Crates").nth(1).and_then(|rest| rest.split("\n## ").next()).expect("section Crates");
    let rows: BTreeMap<_, _> = section.lines().filter_map(row).collect();
    assert!(!rows.is_empty(), "there is no table in ARCHITECTURE.md, section Crates");
    rows
}

/// `` | `core/` | `springald-core` | holds … | proto | ``
fn row(line: &str) -> Option<(String, Option<BTreeSet<String>>)> {
    let cells: Vec<&str> = line.trim().trim_matches('|').split('|').map(str::trim).collect();
    let [_, package, _, may] = cells.as_slice() else { return None };
    let package = package.strip_prefix('`')?.strip_suffix('`')?;
    let names = || may.split(',').map(str::trim).filter(|name| *name != "–").map(str::to_owned).collect();
    Some((package.to_owned(), (*may != "all").then(names)))
}

// === what is there ===

fn workspace() -> PathBuf {
    // Asked at run time: a target directory that checkouts share keeps what another one has compiled.
    let tests = std::env::var_os("CARGO_MANIFEST_DIR").expect("cargo sets it for tests");
    Path::new(&tests).parent().expect("the workspace is above this crate").to_owned()
}

/// The workspace's packages by name, with their folders.
fn packages() -> BTreeMap<String, PathBuf> {
    let root = read(&workspace().join("Cargo.toml"));
    let members = root.lines().find_map(|line| line.strip_prefix("members = [")?.strip_suffix(']')).expect("members");
    let members = members.split(',').map(|member| member.trim().trim_matches('"'));
    members
        .map(|member| workspace().join(member))
        .chain([workspace()])
        .map(|folder| {
            let manifest = read(&folder.join("Cargo.toml"));
            let name = manifest.lines().find_map(|line| line.strip_prefix("name = ")).expect("the package's name");
            (name.trim_matches('"').to_owned(), folder)
        })
        .collect()
}

/// Names in the sections of dependencies of a crate, whatever their kind.
fn dependencies(folder: &Path) -> Vec<String> {
    let manifest = read(&folder.join("Cargo.toml"));
    let mut names = Vec::new();
    let mut inside = false;
    for line in manifest.lines().map(str::trim) {
        if let Some(section) = line.strip_prefix('[') {
            inside = section.trim_end_matches(']').ends_with("dependencies") && !section.starts_with("workspace");
            assert!(!section.contains("dependencies."), "{}: {line}: write one line", folder.display());
        } else if inside && !line.is_empty() && !line.starts_with('#') {
            let name = line.split(['.', '=', ' ']).next().unwrap_or_default();
            names.push(name.to_owned());
        }
    }
    names
}

/// The name in the table of a crate of the workspace.
fn own(dependency: &str) -> Option<String> {
    let name = dependency.strip_prefix("springald-")?;
    Some(if name == "bench" { "benchmarks" } else { name }.to_owned())
}

fn rust_files() -> Vec<PathBuf> {
    files(&["rs"])
}

/// Files of the workspace with these endings, in order of their names. Hidden and built ones are left out.
fn files(endings: &[&str]) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut folders = vec![workspace()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).expect("a readable folder") {
            let path = entry.expect("a readable entry").path();
            let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
            if path.is_dir() {
                let is_source = !name.starts_with('.') && !["target", "node_modules"].contains(&name.as_str());
                folders.extend(is_source.then_some(path));
            } else if path.extension().is_some_and(|end| endings.iter().any(|known| end == *known)) {
                found.push(path);
            }
        }
    }
    found.sort();
    found
}

/// Lines with their numbers, without those that are comments.
fn code_lines(file: &Path) -> impl Iterator<Item = (usize, String)> {
    let lines: Vec<String> = read(file).lines().map(str::to_owned).collect();
    lines
        .into_iter()
        .enumerate()
        .map(|(index, line)| (index + 1, line))
        .filter(|(_, line)| !line.trim().starts_with("//"))
}

fn read(path: &Path) -> String {
    fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// The path below the workspace.
fn shown(file: &Path) -> String {
    file.strip_prefix(workspace()).unwrap_or(file).display().to_string()
}
