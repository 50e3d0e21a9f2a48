//! Hooks, and rules for changes of sources.

use super::service::{command_of, environment_of};
use crate::diagnostic::Findings;
use crate::field::{Field, Section};
use crate::model::{Hook, WatchAction, WatchRule};
use crate::scalar;
use crate::stage::Context;

/// The hooks under a key, in order.
pub(super) fn hooks(section: &mut Section<'_, '_, '_, '_>, key: &str, context: &Context<'_>) -> Vec<Hook> {
    let Some(field) = section.get(key) else { return Vec::new() };
    field.items().filter_map(|entry| hook(&entry, context, section.findings)).collect()
}

fn hook(field: &Field<'_>, context: &Context<'_>, findings: &mut Findings<'_>) -> Option<Hook> {
    let command = field.get("command").and_then(|command| command_of(&command, findings)).unwrap_or_default();
    if command.is_empty() {
        field.error_with_hint(findings, "this does not say what is run", "write `command:`".to_owned());
        return None;
    }
    let mut section = Section { field, findings };
    Some(Hook {
        command,
        user: section.string("user"),
        privileged: section.boolean("privileged"),
        working_dir: section.read("working_dir", scalar::container_path),
        environment: environment_of(&mut section, context),
    })
}

/// The rules under `develop.watch`, in order.
pub(super) fn watch(section: &mut Section<'_, '_, '_, '_>, context: &Context<'_>) -> Vec<WatchRule> {
    let rules = section.get("develop").and_then(|develop| develop.get("watch"));
    let Some(rules) = rules else { return Vec::new() };
    rules.items().filter_map(|entry| rule(&entry, context, section.findings)).collect()
}

fn rule(field: &Field<'_>, context: &Context<'_>, findings: &mut Findings<'_>) -> Option<WatchRule> {
    const ACTIONS: &[(&str, WatchAction)] = &[
        ("rebuild", WatchAction::Rebuild),
        ("restart", WatchAction::Restart),
        ("sync", WatchAction::Sync),
        ("sync+restart", WatchAction::SyncRestart),
        ("sync+exec", WatchAction::SyncExec),
    ];
    for key in ["path", "action"] {
        if field.get(key).is_none() {
            field.error(findings, format!("a rule needs {key}"));
            return None;
        }
    }
    let mut section = Section { field, findings };
    let path = section.read("path", scalar::machine_path)?;
    let action = section.one_of("action", ACTIONS)?;
    let target = section.read("target", scalar::container_path);
    let exec = section.get("exec");
    if action.syncs() && section.get("target").is_none() {
        field.error(section.findings, "a rule that syncs needs a target, the path in the container");
        return None;
    }
    if let (false, Some(target)) = (action.syncs(), section.get("target")) {
        section.findings.error(target.mark, &target.path, "nothing is copied by this action, so there is no target");
    }
    match (&exec, action) {
        (None, WatchAction::SyncExec) => {
            field.error(section.findings, "a rule with sync+exec needs exec, the command");
            return None;
        }
        (Some(_), WatchAction::SyncExec) | (None, _) => {}
        (Some(exec), _) => {
            let what = "a command is run by the action sync+exec alone";
            section.findings.error(exec.mark, &exec.path, what);
        }
    }
    Some(WatchRule {
        path,
        action,
        target,
        ignore: section.strings("ignore"),
        include: section.strings("include"),
        initial_sync: section.boolean("initial_sync"),
        exec: exec.and_then(|exec| hook(&exec, context, section.findings)),
    })
}
