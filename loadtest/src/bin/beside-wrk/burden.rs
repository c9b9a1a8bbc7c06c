//! Programs that use the servers' core and do nothing else: what a server has beside them is little, so that it is the server
//! that a client waits for.

use std::io;
use std::process::{Child, Command, Stdio};

use crate::servers::SERVER_CORE;

#[derive(Debug, Default)]
pub(crate) struct Burden(Vec<Child>);

impl Burden {
    /// How many there are.
    pub(crate) fn programs(&self) -> usize {
        self.0.len()
    }

    /// Has one more there, which ends with this program, however that ends.
    pub(crate) fn add(&mut self) -> io::Result<()> {
        let mut command = Command::new("setpriv");
        command
            .args(["--pdeathsig", "KILL", "taskset", "-c", &SERVER_CORE.to_string()])
            .args(["sh", "-c", "while :; do :; done"])
            .stdin(Stdio::null());
        self.0.push(command.spawn()?);
        Ok(())
    }
}

impl Drop for Burden {
    fn drop(&mut self) {
        for child in &mut self.0 {
            // It may have ended, which is as well.
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}
