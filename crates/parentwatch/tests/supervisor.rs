//! The supervisor's side: a child is told who started it.
#![cfg(unix)]

use parentwatch::{CommandExt, ENV_PARENT_PID};
use std::process::Command;

#[test]
fn a_child_is_told_who_started_it() {
    let told = Command::new("/bin/sh")
        .args(["-c", &format!("printf %s \"${ENV_PARENT_PID}\"")])
        .env(ENV_PARENT_PID, "of somebody else")
        .name_supervisor()
        .output()
        .unwrap();
    let told = String::from_utf8(told.stdout).unwrap();
    assert_eq!(told, parentwatch::token());
    assert!(told.starts_with(&format!("{}", std::process::id())));
}
