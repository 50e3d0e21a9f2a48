//! Tables of keys below one that a release refuses as a whole.

use super::Key;
use super::Kind::{Entries, List, Pairs, Refused, Section, Whole};

pub(super) const INCLUDE: &[Key] = &[("env_file", List), ("path", List), ("project_directory", Whole)];

pub(super) const CONFIG: &[Key] = &[
    ("content", Whole),
    ("environment", Whole),
    ("external", Refused("one engine keeps no configs; use file, environment or content")),
    ("file", Whole),
    ("labels", Refused("a config is a file in containers, which has no labels")),
    ("name", Refused("only external configs are found by name; use file, environment or content")),
    ("template_driver", Refused("write the finished text; ${…} stands for variables")),
];

pub(super) const SECRET: &[Key] = &[
    ("driver", Refused("secrets come from file or environment")),
    ("driver_opts", Refused("secrets come from file or environment")),
    ("environment", Whole),
    ("external", Refused("one engine keeps no secrets; use file or environment")),
    ("file", Whole),
    ("labels", Refused("a secret is a file in containers, which has no labels")),
    ("name", Refused("only external secrets are found by name; use file or environment")),
    ("template_driver", Refused("write the finished text into the file")),
];

pub(super) const GRANT: &[Key] =
    &[("gid", Whole), ("mode", Whole), ("source", Whole), ("target", Whole), ("uid", Whole)];

pub(super) const BLKIO: &[Key] = &[
    ("device_read_bps", Entries(BLKIO_RATE)),
    ("device_read_iops", Entries(BLKIO_RATE)),
    ("device_write_bps", Entries(BLKIO_RATE)),
    ("device_write_iops", Entries(BLKIO_RATE)),
    ("weight", Whole),
    ("weight_device", Entries(BLKIO_WEIGHT)),
];

pub(super) const BLKIO_RATE: &[Key] = &[("path", Whole), ("rate", Whole)];

pub(super) const BLKIO_WEIGHT: &[Key] = &[("path", Whole), ("weight", Whole)];

pub(super) const DEVELOP: &[Key] = &[("watch", Entries(WATCH))];

pub(super) const WATCH: &[Key] = &[
    ("action", Whole),
    ("exec", Section(HOOK)),
    ("ignore", List),
    ("include", List),
    ("initial_sync", Whole),
    ("path", Whole),
    ("target", Whole),
];

pub(super) const HOOK: &[Key] =
    &[("command", Whole), ("environment", Pairs), ("privileged", Whole), ("user", Whole), ("working_dir", Whole)];

pub(super) const DEVICE: &[Key] = &[("permissions", Whole), ("source", Whole), ("target", Whole)];

pub(super) const DEVICE_REQUEST: &[Key] =
    &[("capabilities", List), ("count", Whole), ("device_ids", List), ("driver", Whole), ("options", Pairs)];

pub(super) const ENV_FILE: &[Key] = &[("format", Whole), ("path", Whole), ("required", Whole)];

pub(super) const EXTENDS: &[Key] = &[("file", Whole), ("service", Whole)];

pub(super) const EXTERNAL: &[Key] = &[("name", Whole)];

pub(super) const IPAM: &[Key] = &[("config", Entries(POOL)), ("driver", Whole), ("options", Pairs)];

pub(super) const POOL: &[Key] = &[("aux_addresses", Pairs), ("gateway", Whole), ("ip_range", Whole), ("subnet", Whole)];

pub(super) const MOUNT_IMAGE: &[Key] = &[("subpath", Whole)];
