//! The servers: bare echoes, and a host.

use std::io::Read;
use std::net::{SocketAddr, UdpSocket};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context, Result};
use quinn::{Endpoint, EndpointConfig, ServerConfig, TokioRuntime, TransportConfig, VarInt};
use serde::{Deserialize, Serialize};
use steward_host::guest::{CompileLimits, Compiler, GuestConfig, Guests, Isolation, Profile};
use steward_host::{AuthKey, Config, Host, Key, Limits, Registration, Role, Source, TenantConfig};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

/// Where the echoes listen.
#[derive(Serialize, Deserialize)]
pub(crate) struct EchoReady {
    pub(crate) quic: SocketAddr,
    pub(crate) unix: PathBuf,
}

/// Where the host listens.
#[derive(Serialize, Deserialize)]
pub(crate) struct HostReady {
    pub(crate) quic: String,
    pub(crate) unix: String,
}

/// The key of the host, which serves only this run.
pub(crate) fn authkey() -> AuthKey {
    AuthKey::new(b"the bench's own key, known to all".to_vec()).expect("long enough")
}

/// Transport settings as the host has them, so that only what is above the transport differs.
pub(crate) fn transport() -> Arc<TransportConfig> {
    let mut transport = steward_client::transport::transport(true);
    transport
        .stream_receive_window(VarInt::from_u32(256 << 10))
        .receive_window(VarInt::from_u32(1 << 20))
        .send_window(1 << 20);
    Arc::new(transport)
}

/// A UDP socket as the host and its clients have them.
pub(crate) fn socket() -> Result<UdpSocket> {
    let socket = UdpSocket::bind(SocketAddr::from(([127, 0, 0, 1], 0)))?;
    rustix::net::sockopt::set_socket_recv_buffer_size(&socket, 4 << 20)?;
    Ok(socket)
}

/// Echoes bytes on every QUIC stream, and on every connection of a Unix socket.
pub(crate) async fn echo() -> Result<()> {
    let made = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()])?;
    let key =
        rustls::pki_types::PrivateKeyDer::try_from(made.signing_key.serialize_der()).map_err(anyhow::Error::msg)?;
    let mut config = ServerConfig::with_single_cert(vec![made.cert.der().clone()], key)?;
    config.transport_config(transport());
    let endpoint = Endpoint::new(EndpointConfig::default(), Some(config), socket()?, Arc::new(TokioRuntime))?;
    let directory = tempfile::tempdir()?;
    let path = directory.path().join("echo.sock");
    let listener = tokio::net::UnixListener::bind(&path)?;
    println!("{}", serde_json::to_string(&EchoReady { quic: endpoint.local_addr()?, unix: path })?);
    tokio::spawn(async move {
        while let Some(incoming) = endpoint.accept().await {
            tokio::spawn(async move {
                let connection = incoming.await?;
                while let Ok((mut writer, mut reader)) = connection.accept_bi().await {
                    tokio::spawn(async move {
                        let mut room = vec![0; 64 << 10];
                        while let Some(read) = reader.read(&mut room).await? {
                            writer.write_all(&room[..read]).await?;
                        }
                        anyhow::Ok(())
                    });
                }
                anyhow::Ok(())
            });
        }
    });
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            tokio::spawn(async move {
                // The same framing as the host's: a frame is answered once it is whole.
                let mut received = Vec::new();
                loop {
                    if stream.read_buf(&mut received).await? == 0 {
                        return anyhow::Ok(());
                    }
                    let mut whole = 0;
                    while let Some(length) = received[whole..].first_chunk::<4>() {
                        let end = whole + 4 + u32::from_be_bytes(*length) as usize;
                        if received.len() < end {
                            break;
                        }
                        whole = end;
                    }
                    stream.write_all(&received[..whole]).await?;
                    received.drain(..whole);
                }
            });
        }
    });
    // Until whoever started this closes the pipe.
    tokio::task::spawn_blocking(|| std::io::stdin().read_to_end(&mut Vec::new())).await??;
    Ok(())
}

/// The usual plugins, whose types have names of their own, and those which have the same types in each language: what is appended to
/// these names.
const USUAL: [(&str, &str); 2] = [("leaderboard", ""), ("conformance", "")];
const LANGUAGES: [(&str, &str); 3] = [("conformance", ""), ("c", "C"), ("go", "Go")];

/// A host with the built-in types and some plugins.
pub(crate) fn host(plugins: &Path, profile: Profile, languages: bool, isolation: Isolation) -> Result<()> {
    let compiler = Compiler::Child { program: std::env::current_exe()?, args: vec!["compile-component".into()] };
    let config = GuestConfig::new(compiler);
    // The machine may be busy, and what is compiled is ours.
    let compile_limits = CompileLimits { cpu_s_max: 120, wall_ms_max: 300_000, ..config.compile_limits };
    let guests = Guests::new(GuestConfig { profile, compile_limits, ..config })?;
    let mut types = Vec::new();
    for &(name, suffix) in if languages { &LANGUAGES[..] } else { &USUAL[..] } {
        let path = plugins.join(name).with_extension("wasm");
        let component = std::fs::read(&path)
            .with_context(|| format!("{}: build the plugins with `cargo xtask plugins`", path.display()))?;
        let plugin = guests.load(name, &component)?;
        for offered in plugin.types() {
            let typeid = offered.info().typeid.clone();
            let source = Source::Plugin { plugin: plugin.clone(), typeid: typeid.clone() };
            types.push(Registration { isolation: Some(isolation), ..Registration::new(typeid + suffix, source) });
        }
    }
    let directory = tempfile::Builder::new().prefix("steward").tempdir()?;
    let key = Key { id: "default".into(), role: Role::Admin, authkey: authkey() };
    let limits = Limits { connections_per_source_max: 20_000, ..Limits::private() };
    let host = Host::start(Config {
        quic: vec![SocketAddr::from(([127, 0, 0, 1], 0))],
        unix: Some(directory.path().join("private/host.sock")),
        tenants: vec![TenantConfig { name: "default".into(), keys: vec![key], types }],
        limits,
        ..Config::default()
    })?;
    let [quic, unix] = host.addresses() else { anyhow::bail!("two addresses") };
    println!("{}", serde_json::to_string(&HostReady { quic: quic.to_string(), unix: unix.to_string() })?);
    std::io::stdin().read_to_end(&mut Vec::new())?;
    host.shutdown();
    Ok(())
}
