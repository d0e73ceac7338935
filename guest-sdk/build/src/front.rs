//! Puts a module in front of a plugin's own, which hands `step` through.
//!
//! Whenever a host calls what a component lifts from a module's own function, wasmtime looks that function's code up anew. It spares
//! itself that for a function which the module was given itself: that lies in the module's instance, ready to be called. The
//! difference is a sixth of what a small step takes (docs/adr/0013).

use std::convert::Infallible;

use wasm_encoder::reencode::{Error, Reencode, ReencodeComponent, component_utils};
use wasm_encoder::{
    Alias, Component, ComponentAliasSection, EntityType, ExportKind, ExportSection, ImportSection, InstanceSection,
    Module, ModuleArg, ModuleSection, RawSection, TypeSection, ValType,
};
use wasmparser::{CanonicalFunction, ComponentAlias, ExternalKind, Parser, Payload};

/// `step` of world 0.1.0, as the component model's canonical ABI has it.
const STEP: &str = "steward:plugin/referent@0.1.0#[method]object.step";
const PARAMS: [ValType; 13] = {
    use ValType::{I32, I64};
    [I32, I64, I64, I32, I64, I32, I64, I64, I32, I32, I32, I32, I32]
};
const RESULTS: [ValType; 1] = [ValType::I32];

/// The component with that module in it; as it was, if it has no `step`.
///
/// # Errors
/// If it is no component.
pub(crate) fn put(component: &[u8]) -> Result<Vec<u8>, Error> {
    let mut front = Front::default();
    let mut out = Component::new();
    front.parse_component(&mut out, Parser::new(0), component)?;
    Ok(out.finish())
}

/// How many of each the component has so far, of what is numbered, and where the module came in.
#[derive(Default)]
struct Front {
    functions: u32,
    modules: u32,
    instances: u32,
    came_in: Option<CameIn>,
}

/// What there was before.
struct CameIn {
    functions: u32,
    modules: u32,
    instances: u32,
    /// The plugin's own `step`.
    step: u32,
}

impl Front {
    /// Counts what a section adds; says which function is `step`, if it comes with this.
    fn count(&mut self, payload: &Payload<'_>) -> wasmparser::Result<Option<u32>> {
        let mut step = None;
        match payload {
            Payload::ModuleSection { .. } => self.modules += 1,
            Payload::InstanceSection(section) => self.instances += section.count(),
            Payload::ComponentCanonicalSection(section) => {
                for function in section.clone() {
                    self.functions += u32::from(!matches!(function?, CanonicalFunction::Lift { .. }));
                }
            }
            Payload::ComponentAliasSection(section) => {
                for alias in section.clone() {
                    if let ComponentAlias::CoreInstanceExport { kind: ExternalKind::Func, name, .. } = alias? {
                        step = step.or((name == STEP).then_some(self.functions));
                        self.functions += 1;
                    }
                }
            }
            _ => {}
        }
        Ok(step)
    }

    /// Appends the module, an instance of it and its function.
    fn come_in(&mut self, step: u32, out: &mut Component) {
        let (mut types, mut imports, mut exports) = (TypeSection::new(), ImportSection::new(), ExportSection::new());
        types.ty().function(PARAMS, RESULTS);
        imports.import("", STEP, EntityType::Function(0));
        exports.export(STEP, ExportKind::Func, 0);
        let mut module = Module::new();
        module.section(&types).section(&imports).section(&exports);

        let (given, instance) = (self.instances, self.instances + 1);
        let mut instances = InstanceSection::new();
        instances.export_items([(STEP, ExportKind::Func, step)]);
        instances.instantiate(self.modules, [("", ModuleArg::Instance(given))]);
        let mut aliases = ComponentAliasSection::new();
        aliases.alias(Alias::CoreInstanceExport { instance, kind: ExportKind::Func, name: STEP });
        out.section(&ModuleSection(&module)).section(&instances).section(&aliases);

        let Self { functions, modules, instances, .. } = *self;
        self.came_in = Some(CameIn { functions, modules, instances, step });
    }

    /// The number of what had this one before the module came in, with `more` of its kind.
    fn moved(&self, number: u32, before: fn(&CameIn) -> u32, more: u32) -> u32 {
        number + self.came_in.as_ref().map_or(0, |came_in| if number < before(came_in) { 0 } else { more })
    }
}

impl Reencode for Front {
    type Error = Infallible;

    fn function_index(&mut self, function: u32) -> Result<u32, Error> {
        Ok(match &self.came_in {
            Some(came_in) if came_in.step == function => came_in.functions,
            _ => self.moved(function, |came_in| came_in.functions, 1),
        })
    }
}

impl ReencodeComponent for Front {
    fn module_index(&mut self, module: u32) -> u32 {
        self.moved(module, |came_in| came_in.modules, 1)
    }

    fn instance_index(&mut self, instance: u32) -> u32 {
        self.moved(instance, |came_in| came_in.instances, 2)
    }

    fn parse_component_payload(
        &mut self,
        out: &mut Component,
        payload: Payload<'_>,
        whole: &[u8],
    ) -> Result<(), Error> {
        let step = self.count(&payload)?;
        component_utils::parse_component_payload(self, out, payload, whole)?;
        if let (Some(step), None) = (step, &self.came_in) {
            self.come_in(step, out);
        }
        Ok(())
    }

    // What lies inside has numbers of its own.

    fn parse_component_submodule(&mut self, out: &mut Component, _: Parser, module: &[u8]) -> Result<(), Error> {
        out.section(&RawSection { id: wasm_encoder::ComponentSectionId::CoreModule as u8, data: module });
        Ok(())
    }

    fn parse_component_subcomponent(
        &mut self,
        out: &mut Component,
        _: Parser,
        component: &[u8],
        _: &[u8],
    ) -> Result<(), Error> {
        out.section(&RawSection { id: wasm_encoder::ComponentSectionId::Component as u8, data: component });
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use wasmparser::Validator;
    use wit_component::{ComponentEncoder, StringEncoding, dummy_module, embed_component_metadata};
    use wit_parser::{ManglingAndAbi, Resolve};

    use super::*;

    /// A component of the world, of which no function does anything.
    fn plain() -> Vec<u8> {
        let mut resolve = Resolve::default();
        let wit = concat!(env!("CARGO_MANIFEST_DIR"), "/../../wit/0.1.0/plugin.wit");
        let package = resolve.push_file(wit).unwrap();
        let world = resolve.select_world(&[package], Some("plugin")).unwrap();
        let mut module = dummy_module(&resolve, world, ManglingAndAbi::Legacy(wit_parser::LiftLowerAbi::Sync));
        embed_component_metadata(&mut module, &resolve, world, StringEncoding::UTF8, false).unwrap();
        ComponentEncoder::default().module(&module).unwrap().encode().unwrap()
    }

    /// What the component lifts, in order: each function's name, and which of the core instances it comes from.
    fn lifted(component: &[u8]) -> Vec<(String, u32)> {
        let (mut functions, mut lifted) = (Vec::new(), Vec::new());
        let mut depth = 0;
        for payload in Parser::new(0).parse_all(component) {
            match payload.unwrap() {
                Payload::Version { .. } => depth += 1,
                Payload::End(_) => depth -= 1,
                Payload::ComponentAliasSection(section) if depth == 1 => {
                    for alias in section {
                        if let ComponentAlias::CoreInstanceExport { kind: ExternalKind::Func, instance_index, name } =
                            alias.unwrap()
                        {
                            functions.push((name.to_owned(), instance_index));
                        }
                    }
                }
                Payload::ComponentCanonicalSection(section) if depth == 1 => {
                    for function in section {
                        match function.unwrap() {
                            CanonicalFunction::Lift { core_func_index, .. } => {
                                lifted.push(functions[core_func_index as usize].clone());
                            }
                            _ => functions.push(("made by the component model".into(), u32::MAX)),
                        }
                    }
                }
                _ => {}
            }
        }
        lifted
    }

    #[test]
    fn step_alone_comes_from_the_module_in_front() {
        let plain = plain();
        let fronted = put(&plain).unwrap();
        Validator::new().validate_all(&fronted).unwrap();
        let (before, after) = (lifted(&plain), lifted(&fronted));
        assert_eq!(before.len(), 5);
        let names = |lifted: &[(String, u32)]| lifted.iter().map(|(name, _)| name.clone()).collect::<Vec<_>>();
        assert_eq!(names(&before), names(&after));
        for ((name, own), (_, now)) in before.iter().zip(&after) {
            assert_eq!(name == STEP, own != now, "{name} comes from instance {now}, and came from {own}");
        }
    }

    #[test]
    fn component_without_step_stays_as_it_is() {
        let component = wat::parse_str("(component (core module))").unwrap();
        assert_eq!(put(&component).unwrap(), component);
    }
}
