//! Which crate may use which. Dev-dependencies are free: a test may use whatever shows the rule it guards.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use anyhow::Result;
use cargo_metadata::{DependencyKind, Metadata};

use crate::process::metadata;

/// Every crate of ours, and the crates of ours that it may use.
const MAY_USE: &[(&str, &[&str])] = &[
    ("types", &[]),
    ("kernels", &["types"]),
    ("models", &["kernels", "types"]),
    ("data", &["types"]),
    ("hardware", &["types"]),
    ("store", &["types"]),
    ("train", &["data", "kernels", "models", "types"]),
    ("infer", &["data", "kernels", "models", "types"]),
    ("engine", &["data", "infer", "kernels", "models", "train", "types"]),
    ("engine-cuda", &["engine"]),
    ("hub", &["types"]),
    ("hub-server", &[]),
    ("api", &["data", "hardware", "hub", "store", "types"]),
    ("server", &["api", "types"]),
    ("modelforge", &["api", "data", "engine", "hub", "server", "store", "types"]),
    ("fuzzing", &["data", "models", "types"]),
    ("xtask", &["api", "types"]),
];

/// What only some crates may use, directly or through crates that are not ours.
const ONLY_IN: &[(&[&str], &[&str])] = &[
    (
        &["candle-core", "candle-nn", "candle-transformers"],
        &["kernels", "models", "train", "infer", "engine", "fuzzing"],
    ),
    (&["rusqlite", "libsqlite3-sys"], &["store"]),
    (&["tauri"], &["modelforge"]),
    (&["axum"], &["server", "hub-server"]),
    (&["reqwest", "ureq", "hf-hub", "curl", "isahc", "attohttpc", "minreq"], &["hub"]),
    (&["hyper"], &["hub", "hub-server", "server"]),
];

/// What only some crates may name in their own manifest, so that what it does has one place.
const NAMED_ONLY_IN: &[(&[&str], &[&str])] = &[
    (&["tokenizers", "minijinja", "parquet", "csv"], &["data"]),
    (&["safetensors"], &["models", "train"]),
    (&["nvml-wrapper", "objc2-metal", "sysinfo"], &["hardware"]),
    (&["clap", "indicatif"], &["modelforge"]),
];

/// Who uses whom, by package name.
#[derive(Default)]
struct Graph {
    ours: BTreeSet<String>,
    uses: BTreeMap<String, BTreeSet<String>>,
}

/// One sentence for every use that the tables above do not allow.
pub fn check() -> Result<Vec<String>> {
    Ok(Graph::of(&metadata()?).problems())
}

impl Graph {
    fn of(metadata: &Metadata) -> Self {
        let name = |id| metadata.packages.iter().find(|p| p.id == id).map(|p| p.name.to_string());
        let mut graph = Graph::default();
        graph.ours.extend(metadata.workspace_packages().into_iter().map(|p| p.name.to_string()));
        for node in metadata.resolve.iter().flat_map(|resolve| &resolve.nodes) {
            let used = node
                .deps
                .iter()
                .filter(|dep| dep.dep_kinds.iter().any(|kind| kind.kind != DependencyKind::Development))
                .filter_map(|dep| name(dep.pkg.clone()));
            if let Some(user) = name(node.id.clone()) {
                graph.uses.entry(user).or_default().extend(used);
            }
        }
        graph
    }

    fn problems(&self) -> Vec<String> {
        let mut problems = Vec::new();
        for krate in &self.ours {
            let Some((_, allowed)) = MAY_USE.iter().find(|(name, _)| name == krate) else {
                problems.push(format!("{krate}: has no row in MAY_USE of tidy/crates.rs"));
                continue;
            };
            for used in self.uses(krate).filter(|used| self.ours.contains(*used)) {
                if !allowed.contains(&used) {
                    problems
                        .push(format!("{krate}: must not use {used} (ARCHITECTURE.md, crate directions)"));
                }
            }
        }
        for (packages, homes) in ONLY_IN {
            for krate in self.ours.iter().filter(|krate| !homes.contains(&krate.as_str())) {
                if let Some(path) = self.path(krate, packages) {
                    let homes = homes.join(", ");
                    problems.push(format!(
                        "{krate}: must not reach {}, which only {homes} may",
                        path.join(" → ")
                    ));
                }
            }
        }
        for (packages, homes) in NAMED_ONLY_IN {
            for krate in self.ours.iter().filter(|krate| !homes.contains(&krate.as_str())) {
                for used in self.uses(krate).filter(|used| packages.contains(used)) {
                    problems
                        .push(format!("{krate}: must not name {used}, which only {} may", homes.join(", ")));
                }
            }
        }
        problems
    }

    fn uses(&self, name: &str) -> impl Iterator<Item = &str> {
        self.uses.get(name).into_iter().flatten().map(String::as_str)
    }

    /// The shortest way from a crate to one of `packages` that does not pass through another crate of ours.
    fn path<'a>(&'a self, from: &'a str, packages: &[&str]) -> Option<Vec<&'a str>> {
        let mut came_from = BTreeMap::new();
        let mut queue = VecDeque::from([from]);
        while let Some(name) = queue.pop_front() {
            for used in self.uses(name) {
                if self.ours.contains(used) || came_from.contains_key(used) {
                    continue;
                }
                came_from.insert(used, name);
                if packages.contains(&used) {
                    let mut path: Vec<&str> =
                        std::iter::successors(Some(used), |step| came_from.get(step).copied()).collect();
                    path.pop();
                    path.reverse();
                    return Some(path);
                }
                queue.push_back(used);
            }
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn graph(ours: &[&str], uses: &[(&str, &str)]) -> Graph {
        let mut graph = Graph { ours: ours.iter().map(|s| s.to_string()).collect(), ..Graph::default() };
        for (user, used) in uses {
            graph.uses.entry(user.to_string()).or_default().insert(used.to_string());
        }
        graph
    }

    #[test]
    fn wrong_edges_are_found_and_right_ones_are_not() {
        let ours = &["types", "data", "models", "kernels", "train", "infer", "store", "api"];
        let cases: &[(&[(&str, &str)], &[&str])] = &[
            (&[("train", "models"), ("models", "kernels"), ("models", "candle-core")], &[]),
            (&[("train", "infer")], &["train: must not use infer"]),
            (&[("infer", "train")], &["infer: must not use train"]),
            (&[("train", "store")], &["train: must not use store"]),
            (&[("data", "candle-core")], &["data: must not reach candle-core"]),
            (
                &[("data", "some-crate"), ("some-crate", "candle-nn")],
                &["data: must not reach some-crate → candle-nn"],
            ),
            (&[("api", "store"), ("store", "rusqlite")], &[]),
            (&[("api", "rusqlite")], &["api: must not reach rusqlite"]),
            (&[("train", "csv")], &["train: must not name csv"]),
            (&[("train", "some-crate"), ("some-crate", "csv"), ("data", "csv")], &[]),
            (&[("types", "a"), ("a", "b"), ("b", "a")], &[]),
        ];
        for (uses, want) in cases {
            let found = graph(ours, uses).problems();
            assert_eq!(found.len(), want.len(), "{uses:?} must give exactly {want:?}, not {found:?}");
            for (found, want) in found.iter().zip(*want) {
                assert!(found.starts_with(want), "{uses:?} must give {want:?}, not {found:?}");
            }
        }
    }

    #[test]
    fn a_crate_without_a_row_is_a_problem() {
        let found = graph(&["types", "newcomer"], &[]).problems();
        assert_eq!(found.len(), 1, "every crate must be in the table");
        assert!(found[0].starts_with("newcomer: has no row"), "the crate must be named: {found:?}");
    }

    #[test]
    fn the_graph_of_this_workspace_is_read_whole() {
        let graph = Graph::of(&metadata().unwrap());
        assert!(graph.ours.contains("types") && graph.ours.contains("modelforge"), "members must be found");
        assert!(graph.uses("models").any(|used| used == "candle-core"), "direct dependencies must be found");
        assert!(graph.path("models", &["half"]).is_some(), "paths through other crates must be found");
    }
}
