use std::process::{Child, Command};

use rustix::process::{Pid, Signal, kill_process};

/// A program that ends with this process, however this process ends: `setpriv` ties it to our life.
pub(crate) fn bound_to_us(program: &std::path::Path) -> Command {
    let mut command = Command::new("setpriv");
    command.args(["--pdeathsig", "TERM", "--"]).arg(program);
    command
}

pub(crate) fn signal(child: &Child, signal: Signal) {
    let pid = i32::try_from(child.id()).ok().and_then(Pid::from_raw).expect("a process id");
    // Fails only when the process is gone.
    let _ = kill_process(pid, signal);
}
