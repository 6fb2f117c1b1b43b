//! A real Redis for tests: one process each, on a free port, without a file on disk, gone with the test.

use std::net::{SocketAddr, TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use secrecy::SecretString;

/// A busy machine takes its time.
const READY_WITHIN: Duration = Duration::from_secs(60);

/// A running redis-server.
pub struct TestRedis {
    address: SocketAddr,
    arguments: Vec<String>,
    password: Option<String>,
    process: Option<Child>,
}

impl TestRedis {
    #[must_use]
    pub fn start() -> Self {
        Self::start_with(&[], None)
    }

    /// With more arguments, and a password that clients must give.
    #[must_use]
    pub fn start_with(arguments: &[&str], password: Option<&str>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").and_then(|listener| listener.local_addr());
        let mut redis = Self {
            address: listener.expect("find a free port"),
            arguments: arguments.iter().map(ToString::to_string).collect(),
            password: password.map(str::to_owned),
            process: None,
        };
        redis.run();
        redis
    }

    /// Starts it, at the same address as before, and waits until it answers.
    pub fn run(&mut self) {
        let mut command = Command::new("redis-server");
        command.args(["--bind", "127.0.0.1", "--save", "", "--appendonly", "no", "--port"]);
        command.arg(self.address.port().to_string()).args(&self.arguments);
        if let Some(password) = &self.password {
            command.args(["--requirepass", password]);
        }
        let process = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn();
        self.process = Some(process.expect("start redis-server: apt-get install -y redis-server"));
        let started = Instant::now();
        while TcpStream::connect_timeout(&self.address, Duration::from_secs(1)).is_err() {
            assert!(started.elapsed() < READY_WITHIN, "redis-server does not start");
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    #[must_use]
    pub fn url(&self) -> SecretString {
        let user = self.password.as_ref().map(|password| format!(":{password}@")).unwrap_or_default();
        SecretString::from(format!("redis://{user}{}", self.address))
    }

    /// Ends it without warning; what it counted is gone.
    pub fn kill(&mut self) {
        if let Some(mut process) = self.process.take() {
            process.kill().expect("kill redis-server");
            process.wait().expect("redis-server is gone");
        }
    }

    /// Accepts connections and stays silent, until [`TestRedis::thaw`].
    pub fn freeze(&self) {
        self.signal(Signal::STOP);
    }

    pub fn thaw(&self) {
        self.signal(Signal::CONT);
    }

    fn signal(&self, signal: Signal) {
        let process = self.process.as_ref().expect("a running redis-server");
        kill_process(Pid::from_child(process), signal).expect("signal redis-server");
    }
}

impl Drop for TestRedis {
    fn drop(&mut self) {
        if let Some(mut process) = self.process.take() {
            let _already_gone = process.kill();
            let _already_gone = process.wait();
        }
    }
}
