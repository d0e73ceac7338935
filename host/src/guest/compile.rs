//! Compiling, in a process that may be killed.
//!
//! A few hundred kilobytes of wasm can cost a compiler minutes and gigabytes. So it runs in a child that takes
//! limits upon itself before it reads a byte of the component, and that the host kills when its time is
//! over. The child is this same program, started with arguments that make it call [`compile_main`].

use std::ffi::OsString;
use std::io::{self, Read, Write};
use std::os::unix::process::ExitStatusExt;
use std::path::PathBuf;
use std::process::{Child, Command, ExitCode, ExitStatus, Stdio};
use std::sync::mpsc;
use std::time::Duration;

use rustix::process::{Resource, Rlimit, Signal, setrlimit};
use wasmtime::Engine;

use super::{Artefact, GuestError, Layout, engine};

/// How components are compiled.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Compiler {
    /// In a child process with limits.
    Child {
        /// An executable that calls [`compile_main`] when it is started with `args`. It must be of the same build as
        /// the host.
        program: PathBuf,
        /// Its arguments.
        args: Vec<OsString>,
    },
    /// In this process, without any limit: for components that are trusted.
    InProcess,
}

/// What a compiling child may use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CompileLimits {
    /// Limit of a component's size in bytes; a larger one is refused unread.
    pub component_bytes_max: usize,
    /// CPU seconds, after which the kernel kills the compiler.
    pub cpu_s_max: u64,
    /// Milliseconds until the host kills the compiler, however little CPU it got.
    pub wall_ms_max: u64,
    /// Bytes of address space, beyond which the compiler's allocations fail.
    pub memory_bytes_max: u64,
}

impl Default for CompileLimits {
    fn default() -> Self {
        Self { component_bytes_max: 8 << 20, cpu_s_max: 5, wall_ms_max: 10_000, memory_bytes_max: 512 << 20 }
    }
}

/// Text of the compiler that is kept when it fails.
const COMPLAINT_BYTES_MAX: u64 = 4096;

/// What the child exits with after it has found the component to be invalid.
const EXIT_INVALID: u8 = 10;

pub(super) fn compile(
    component: &[u8],
    layout: Layout,
    compiler: &Compiler,
    limits: &CompileLimits,
) -> Result<Artefact, GuestError> {
    if component.len() > limits.component_bytes_max {
        return Err(GuestError::TooLarge { bytes: component.len(), limit: limits.component_bytes_max });
    }
    // In words of its own: a compiler's are about bytes that it has expected.
    if let Some(what) = steward_build::no_component(component) {
        return Err(GuestError::Invalid(format!("it is {what}")));
    }
    let artefact = match compiler {
        Compiler::InProcess => {
            let engine = engine::compiling(layout).map_err(GuestError::engine)?;
            engine.precompile_component(component).map_err(|error| GuestError::Invalid(format!("{error:#}")))?
        }
        Compiler::Child { program, args } => {
            let child = Command::new(program)
                .args(args)
                .env_clear()
                .stdin(Stdio::piped())
                .stdout(Stdio::piped())
                .stderr(Stdio::piped())
                .spawn()
                .map_err(GuestError::Compiler)?;
            let ended = drive(child, component, layout, limits).map_err(GuestError::Compiler)?;
            ended.into_result(limits)?
        }
    };
    Ok(Artefact::from_compiler(artefact))
}

struct Ended {
    status: ExitStatus,
    out_of_time: bool,
    artefact: Vec<u8>,
    complaint: String,
}

/// Feeds the child and reads it, on threads of their own, and kills it when its time is over.
fn drive(mut child: Child, component: &[u8], layout: Layout, limits: &CompileLimits) -> io::Result<Ended> {
    let mut stdin = child.stdin.take().expect("stdin is piped");
    let mut stdout = child.stdout.take().expect("stdout is piped");
    let stderr = child.stderr.take().expect("stderr is piped");
    // What a compiler may answer is bounded by the memory that it may use.
    let artefact_bytes_max = limits.memory_bytes_max;
    let (done, finished) = mpsc::channel::<()>();
    std::thread::scope(|scope| {
        scope.spawn(move || {
            let mut request = Vec::with_capacity(17);
            request.extend_from_slice(&limits.cpu_s_max.to_le_bytes());
            request.extend_from_slice(&limits.memory_bytes_max.to_le_bytes());
            request.push(u8::from(layout == Layout::Dense));
            // A child that dies early closes the pipe; its status says why.
            let _ = stdin.write_all(&request).and_then(|()| stdin.write_all(component));
        });
        let complaint = scope.spawn(move || {
            let mut complaint = Vec::new();
            let mut stderr = stderr;
            let _ = stderr.by_ref().take(COMPLAINT_BYTES_MAX).read_to_end(&mut complaint);
            // Drained, so that a talkative child does not block.
            let _ = io::copy(&mut stderr, &mut io::sink());
            String::from_utf8_lossy(&complaint).trim().to_owned()
        });
        let artefact = scope.spawn(move || {
            let mut artefact = Vec::new();
            let read = stdout.by_ref().take(artefact_bytes_max).read_to_end(&mut artefact);
            drop(done);
            read.map(|_| artefact)
        });
        // End of file comes with the child's end, however it ends: nothing else has its stdout.
        let out_of_time =
            finished.recv_timeout(Duration::from_millis(limits.wall_ms_max)) == Err(mpsc::RecvTimeoutError::Timeout);
        // Does nothing if the child has ended, whose number is not given away before `wait`.
        let killed = child.kill();
        let status = child.wait();
        killed?;
        Ok(Ended {
            status: status?,
            out_of_time,
            artefact: artefact.join().expect("the reader does not panic")?,
            complaint: complaint.join().expect("the reader does not panic"),
        })
    })
}

impl Ended {
    fn into_result(self, limits: &CompileLimits) -> Result<Vec<u8>, GuestError> {
        let signal = self.status.signal();
        if self.out_of_time {
            return Err(GuestError::CompileTime { wall_ms: limits.wall_ms_max });
        }
        if signal == Some(Signal::XCPU.as_raw()) {
            return Err(GuestError::CompileCpu { cpu_s: limits.cpu_s_max });
        }
        if signal == Some(Signal::ABORT.as_raw()) && self.complaint.contains("memory allocation of") {
            return Err(GuestError::CompileMemory { bytes: limits.memory_bytes_max });
        }
        match self.status.code() {
            Some(0) => Ok(self.artefact),
            Some(code) if code == i32::from(EXIT_INVALID) => Err(GuestError::Invalid(self.complaint)),
            _ => Err(GuestError::CompilerEnded { status: self.status.to_string(), complaint: self.complaint }),
        }
    }
}

/// The whole life of a compiling child: limits, the layout and a component come in at stdin, the compiled form goes out at stdout.
///
/// To be called first thing by the executable that [`Compiler::Child`] names.
pub fn compile_main() -> ExitCode {
    let mut input = io::stdin().lock();
    let compiled = (|| {
        let mut limit = || -> io::Result<u64> {
            let mut bytes = [0; 8];
            input.read_exact(&mut bytes)?;
            Ok(u64::from_le_bytes(bytes))
        };
        let (cpu_s, memory_bytes) = (limit()?, limit()?);
        limit_myself(cpu_s, memory_bytes)?;
        let mut dense = [0];
        input.read_exact(&mut dense)?;
        let layout = if dense == [0] { Layout::Fast } else { Layout::Dense };
        let mut component = Vec::new();
        input.read_to_end(&mut component)?;
        Ok::<_, wasmtime::Error>((engine::compiling(layout)?, component))
    })();
    let (engine, component): (Engine, Vec<u8>) = match compiled {
        Ok(ready) => ready,
        Err(error) => {
            eprintln!("{error:#}");
            return ExitCode::FAILURE;
        }
    };
    match engine.precompile_component(&component) {
        Ok(artefact) => match write_whole(&artefact) {
            Ok(()) => ExitCode::SUCCESS,
            Err(error) => {
                eprintln!("{error}");
                ExitCode::FAILURE
            }
        },
        Err(error) => {
            eprintln!("{error:#}");
            ExitCode::from(EXIT_INVALID)
        }
    }
}

fn write_whole(artefact: &[u8]) -> io::Result<()> {
    let mut output = io::stdout().lock();
    output.write_all(artefact)?;
    output.flush()
}

fn limit_myself(cpu_s: u64, memory_bytes: u64) -> io::Result<()> {
    let exactly = |limit| Rlimit { current: Some(limit), maximum: Some(limit) };
    // The soft limit signals, the hard one kills: a second apart, so that the signal tells which limit it was.
    setrlimit(Resource::Cpu, Rlimit { current: Some(cpu_s), maximum: Some(cpu_s + 1) })?;
    setrlimit(Resource::As, exactly(memory_bytes))?;
    setrlimit(Resource::Core, exactly(0))?;
    // No file is written, and no process is started.
    setrlimit(Resource::Fsize, exactly(0))?;
    setrlimit(Resource::Nproc, exactly(0))?;
    Ok(())
}
