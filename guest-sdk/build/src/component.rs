//! Components as files: made of a core module, marked with what made them, and looked at without running them.

use serde::Serialize;
use wasmparser::{Parser, Payload};
use wit_component::ComponentEncoder;

use crate::{BuildError, WORLD, front};

/// The custom section that says what a component was made with, in lines of a word and what it stands for.
const SECTION: &str = "steward";

/// Makes a component of a core module that carries its world in a custom section.
///
/// `adapter` is a core module that takes the place of the system for modules which import one: `(name, bytes)`, as
/// `wasi_snapshot_preview1` for Go.
///
/// # Errors
/// [`BuildError::Component`].
pub fn wrap(module: &[u8], adapter: Option<(&str, &[u8])>) -> Result<Vec<u8>, BuildError> {
    let asked = asked_of_a_system(module).map_err(|error| BuildError::Component(error.to_string()))?;
    if adapter.is_none() && !asked.is_empty() {
        return Err(BuildError::Component(format!(
            "it asks the system for {}, and plugins have none: time and chance come from the SDK",
            asked.join(", ")
        )));
    }
    let mut encoder = ComponentEncoder::default();
    let encoded = encoder.module(module).and_then(|encoder| match adapter {
        Some((name, bytes)) => encoder.adapter(name, bytes),
        None => Ok(encoder),
    });
    let component =
        encoded.and_then(ComponentEncoder::encode).map_err(|error| BuildError::Component(format!("{error:#}")))?;
    // An adapter hands the plugin's functions through by itself.
    let component = match adapter {
        Some(_) => component,
        None => front::put(&component).map_err(|error| BuildError::Component(error.to_string()))?,
    };
    let checked = wasmparser::Validator::new().validate_all(&component);
    checked.map_err(|error| BuildError::Component(error.to_string()))?;
    Ok(component)
}

/// Names of the functions that a module wants of a system: `clock_time_get`, for a libc's `time()`.
fn asked_of_a_system(module: &[u8]) -> Result<Vec<String>, wasmparser::BinaryReaderError> {
    let mut names = Vec::new();
    for payload in Parser::new(0).parse_all(module) {
        if let Payload::ImportSection(imports) = payload? {
            for import in imports.into_imports() {
                let import = import?;
                if import.module.starts_with("wasi") {
                    names.push(format!("`{}`", import.name));
                }
            }
        }
    }
    Ok(names)
}

/// Appends the custom section that says what made a component, unless a module inside of it says so already.
///
/// `language` as in [`crate::Language::name`], `sdk` its SDK's version, `world` that of the world.
///
/// # Errors
/// [`BuildError::Component`] if it is none.
pub fn stamp(mut component: Vec<u8>, language: &str, sdk: &str, world: &str) -> Result<Vec<u8>, BuildError> {
    if inspect(&component)?.sdk.is_none() {
        let text = format!("sdk {language} {sdk}\nworld {world}\n");
        // A custom section: its number, its size, its name's size, its name, its content; sizes below 128 are a byte.
        component.extend([0, u8::try_from(1 + SECTION.len() + text.len()).expect("two versions are short")]);
        component.push(SECTION.len() as u8);
        component.extend(SECTION.bytes().chain(text.bytes()));
    }
    Ok(component)
}

/// What is known of a component without running it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Made {
    /// Language and version of the SDK that made it: `rust 0.1.0`.
    pub sdk: Option<String>,
    /// Version of the world that it says it was made for.
    pub world: Option<String>,
    /// Names of what it imports.
    pub imports: Vec<String>,
    /// Names of what it exports.
    pub exports: Vec<String>,
    /// Bytes of code in its modules.
    pub code_bytes: u64,
    /// Bytes of data in its modules.
    pub data_bytes: u64,
    /// Bytes of linear memory that each object has from the start.
    pub memory_bytes_min: u64,
    /// Bytes that its memory may grow to by its own word; none if it sets no limit.
    pub memory_bytes_max: Option<u64>,
}

impl Made {
    /// Version of Steward's world by the names that it exports: `0.1.0`.
    pub fn exported_world(&self) -> Option<&str> {
        self.exports.iter().find_map(|name| name.strip_prefix("steward:plugin/referent@"))
    }

    /// Why hosts of this release do not serve its world: `plugin was built for world 0.2, this host serves 0.1`.
    pub fn other_world(&self) -> Option<String> {
        let (world, served) = (minor(self.exported_world()?), minor(WORLD));
        (world != served).then(|| format!("plugin was built for world {world}, this host serves {served}"))
    }
}

/// Versions below 1 break with their second number.
fn minor(version: &str) -> &str {
    version.rsplit_once('.').map_or(version, |(minor, _)| minor)
}

/// What bytes are that do not begin as a component does.
pub fn no_component(bytes: &[u8]) -> Option<&'static str> {
    match () {
        () if Parser::is_component(bytes) => None,
        () if Parser::is_core_wasm(bytes) => Some("a core module of WebAssembly, and no component"),
        () if bytes.is_empty() => Some("empty"),
        () => Some("no WebAssembly"),
    }
}

/// Looks at a component.
///
/// # Errors
/// [`BuildError::Component`] if it is none.
pub fn inspect(component: &[u8]) -> Result<Made, BuildError> {
    let broken = |error: wasmparser::BinaryReaderError| BuildError::Component(error.to_string());
    if let Some(what) = no_component(component) {
        return Err(BuildError::Component(format!("it is {what}")));
    }
    let mut made = Made::default();
    // Modules and components inside of others; only the outermost one's names are names for the host.
    let mut depth = 0;
    for payload in Parser::new(0).parse_all(component) {
        match payload.map_err(broken)? {
            Payload::Version { .. } => depth += 1,
            Payload::End(_) => depth -= 1,
            Payload::ComponentImportSection(section) if depth == 1 => {
                for import in section {
                    made.imports.push(import.map_err(broken)?.name.name.to_owned());
                }
            }
            Payload::ComponentExportSection(section) if depth == 1 => {
                for export in section {
                    made.exports.push(export.map_err(broken)?.name.name.to_owned());
                }
            }
            Payload::CustomSection(section) if section.name() == SECTION => {
                for line in String::from_utf8_lossy(section.data()).lines() {
                    match line.split_once(' ') {
                        Some(("sdk", sdk)) => made.sdk = Some(sdk.to_owned()),
                        Some(("world", world)) => made.world = Some(world.to_owned()),
                        // Later SDKs may say more.
                        _ => {}
                    }
                }
            }
            Payload::MemorySection(section) => {
                for memory in section {
                    let memory = memory.map_err(broken)?;
                    let page_bytes = 1_u64 << memory.page_size_log2.unwrap_or(16);
                    made.memory_bytes_min += memory.initial.saturating_mul(page_bytes);
                    made.memory_bytes_max = memory.maximum.map(|pages| pages.saturating_mul(page_bytes));
                }
            }
            Payload::CodeSectionStart { size, .. } => made.code_bytes += u64::from(size),
            Payload::DataSection(section) => made.data_bytes += section.range().end - section.range().start,
            _ => {}
        }
    }
    Ok(made)
}
