//! `deploy`, and the keys beside it that say the same: `scale`, `cpus`, `mem_limit`, `mem_reservation`, `pids_limit`.

use crate::field::{Field, Section};
use crate::model::{
    Attribute, Constraint, Deploy, FailureAction, Mode, Operator, Placement, ResourceSet, Resources, RestartCondition,
    RestartPolicy, UpdateConfig, UpdateOrder,
};
use crate::scalar;

pub(super) fn deploy(service: &mut Section<'_, '_, '_, '_>) -> Deploy {
    let deploy = service.get("deploy");
    let below = |path: [&str; 2]| deploy.as_ref()?.get("resources")?.get(path[0])?.get(path[1]);
    let limits = ResourceSet {
        nano_cpus: either(service, below(["limits", "cpus"]), "cpus", scalar::nano_cpus),
        memory_bytes: either(service, below(["limits", "memory"]), "mem_limit", scalar::bytes),
        pids: either(service, below(["limits", "pids"]), "pids_limit", scalar::integer),
    };
    let reservations = ResourceSet {
        nano_cpus: below(["reservations", "cpus"]).and_then(|field| field.read(service.findings, scalar::nano_cpus)),
        memory_bytes: either(service, below(["reservations", "memory"]), "mem_reservation", scalar::bytes),
        pids: None,
    };
    let replicas_field = deploy.as_ref().and_then(|deploy| deploy.get("replicas"));
    let replicas = either(service, replicas_field.clone(), "scale", scalar::integer);
    let mut mode = Mode::Replicated { replicas: replicas.unwrap_or(1) };
    let resources = Resources { limits, reservations };
    let Some(field) = deploy.as_ref() else { return Deploy { mode, resources, ..Deploy::default() } };
    let mut section = Section { field, findings: service.findings };
    let global = section.read("mode", |text| match text {
        "replicated" => Ok(false),
        "global" => Ok(true),
        "replicated-job" | "global-job" => {
            Err(format!("Longshore does not support the mode {text:?}: a job is a service that others await with service_completed_successfully"))
        }
        _ => Err(format!("{text:?} is neither replicated nor global")),
    });
    if global == Some(true) {
        mode = Mode::Global;
        if let Some(replicas) = replicas_field.or_else(|| service.get("scale")) {
            replicas.error(service.findings, "a service with mode: global runs once on each host, so it has no number");
        }
    }
    let mut section = Section { field, findings: service.findings };
    Deploy {
        mode,
        placement: placement(&mut section),
        resources,
        update_config: section.get("update_config").map(|field| update_config(&field, &mut section)),
        restart_policy: section.get("restart_policy").map(|field| restart_policy(&field, &mut section)),
        labels: section.labels("labels"),
    }
}

/// One value that may stand in two places, but not with two meanings.
fn either<T: PartialEq + Copy>(
    service: &mut Section<'_, '_, '_, '_>,
    deploy: Option<Field<'_>>,
    key: &str,
    read: fn(&str) -> Result<T, String>,
) -> Option<T> {
    let beside = service.get(key);
    let first = deploy.as_ref().and_then(|field| field.read(service.findings, read));
    let second = beside.as_ref().and_then(|field| field.read(service.findings, read));
    if let (Some(field), Some(one), Some(other), Some(beside)) = (&deploy, first, second, &beside)
        && one != other
    {
        let what = format!("{} on line {} says something else", field.path, field.mark.line);
        beside.error_with_hint(service.findings, what, format!("take {key} away"));
    }
    first.or(second)
}

fn placement(section: &mut Section<'_, '_, '_, '_>) -> Placement {
    let constraints = section.get("placement").and_then(|field| field.get("constraints"));
    let mut constraints: Vec<Constraint> =
        constraints.map(|field| field.read_all(section.findings, constraint)).unwrap_or_default();
    constraints.sort();
    constraints.dedup();
    Placement { constraints }
}

fn constraint(text: &str) -> Result<Constraint, String> {
    let form = || format!("{text:?} is not node.labels.KEY == VALUE or node.hostname == VALUE, with == or !=");
    let (attribute, operator, value) = match (text.split_once("=="), text.split_once("!=")) {
        (Some((attribute, value)), None) => (attribute.trim(), Operator::Equal, value.trim()),
        (None, Some((attribute, value))) => (attribute.trim(), Operator::NotEqual, value.trim()),
        _ => return Err(form()),
    };
    let attribute = match attribute.strip_prefix("node.labels.") {
        Some(key) if !key.is_empty() => Attribute::Label(key.to_owned()),
        _ if attribute == "node.hostname" => Attribute::Hostname,
        _ if attribute.starts_with("node.") || attribute.starts_with("engine.") => {
            return Err(format!(
                "Longshore does not support constraints on {attribute}, only on node.labels.KEY and node.hostname"
            ));
        }
        _ => return Err(form()),
    };
    if value.is_empty() {
        return Err(form());
    }
    Ok(Constraint { attribute, operator, value: value.to_owned() })
}

fn update_config(field: &Field<'_>, parent: &mut Section<'_, '_, '_, '_>) -> UpdateConfig {
    const ACTIONS: &[(&str, FailureAction)] = &[
        ("continue", FailureAction::Continue),
        ("pause", FailureAction::Pause),
        ("rollback", FailureAction::Rollback),
    ];
    const ORDERS: &[(&str, UpdateOrder)] =
        &[("stop-first", UpdateOrder::StopFirst), ("start-first", UpdateOrder::StartFirst)];
    let mut section = Section { field, findings: parent.findings };
    UpdateConfig {
        parallelism: section.read("parallelism", scalar::integer),
        delay_micros: section.read("delay", scalar::duration_micros),
        failure_action: section.one_of("failure_action", ACTIONS),
        monitor_micros: section.read("monitor", scalar::duration_micros),
        order: section.one_of("order", ORDERS),
    }
}

fn restart_policy(field: &Field<'_>, parent: &mut Section<'_, '_, '_, '_>) -> RestartPolicy {
    const CONDITIONS: &[(&str, RestartCondition)] = &[
        ("none", RestartCondition::None),
        ("on-failure", RestartCondition::OnFailure),
        ("any", RestartCondition::Any),
    ];
    let mut section = Section { field, findings: parent.findings };
    RestartPolicy {
        condition: section.one_of("condition", CONDITIONS).unwrap_or_default(),
        delay_micros: section.read("delay", scalar::duration_micros),
        max_attempts: section.read("max_attempts", scalar::integer),
        window_micros: section.read("window", scalar::duration_micros),
    }
}
