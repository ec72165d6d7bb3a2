//! The supervisor's side: it names itself in the environment of its children.
#![cfg(unix)]

use parentwatch::{CommandExt, ENV_PARENT_PID};
use std::process::Command;

#[test]
fn a_child_finds_its_supervisors_token_in_its_environment() {
    let found = Command::new("/bin/sh")
        .args(["-c", &format!("printf %s \"${ENV_PARENT_PID}\"")])
        .env(ENV_PARENT_PID, "of another process")
        .name_supervisor()
        .output()
        .unwrap();
    let found = String::from_utf8(found.stdout).unwrap();
    assert_eq!(found, parentwatch::token());
    assert!(found.starts_with(&format!("{}", std::process::id())));
}
