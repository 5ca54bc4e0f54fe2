//! Redis, if the environment says that there is one: a server of our own on a unix socket, and its own benchmark program.

use std::env;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// A running server.
pub struct Redis {
    server: Child,
    socket: PathBuf,
}

impl Redis {
    /// Starts the server that `BENCH_REDIS` names (`redis-server`, or its path).
    pub fn find() -> Option<Redis> {
        let program = env::var_os("BENCH_REDIS")?;
        let socket = env::temp_dir().join(format!("dragon-bench-{}.sock", std::process::id()));
        let mut command = Command::new(program);
        command.args(["--port", "0", "--save", "", "--appendonly", "no", "--unixsocket"]).arg(&socket);
        let server = command.stdout(Stdio::null()).spawn().expect("BENCH_REDIS names a program");
        let begin = Instant::now();
        while !socket.exists() {
            assert!(begin.elapsed() < Duration::from_secs(10), "Redis does not come up");
            std::thread::yield_now();
        }
        Some(Redis { server, socket })
    }

    /// Million calls a second of two clients with 16 calls under way each: gets and puts of 8 B, their mean.
    pub fn figure(&self) -> f64 {
        let mut command = Command::new("redis-benchmark");
        command.arg("-s").arg(&self.socket);
        command.args(["-c", "2", "-P", "16", "-n", "1000000", "-d", "8", "-r", "100000", "-t", "get,set", "--csv"]);
        let output = command.output().expect("redis-benchmark is beside redis-server");
        let text = String::from_utf8_lossy(&output.stdout).replace('"', "");
        let rate = |line: &str| line.split(',').nth(1)?.parse::<f64>().ok();
        let rates: Vec<f64> = text.lines().filter_map(rate).collect();
        assert_eq!(rates.len(), 2, "redis-benchmark said: {text}");
        (rates[0] + rates[1]) / 2.0 / 1e6
    }
}

impl Drop for Redis {
    fn drop(&mut self) {
        // Fails only if it has ended.
        let _ = self.server.kill();
        let _ = self.server.wait();
        let _ = std::fs::remove_file(&self.socket);
    }
}
