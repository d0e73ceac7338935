//! `steward call`: one method of one object.

use std::process::ExitCode;
use std::time::Duration;

use steward_client::AnyValue as Value;

use super::connect::Connect;
use super::failure::{Failure, Outcome, Status};
use super::format::Format;
use super::target::{Arguments, Target, calling};

/// Calls a method and prints its result.
#[derive(clap::Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Call {
    /// Object: a name (`jobs`), an ident (`#41`), or `Type/name`, which is made if there is none.
    target: Target,

    /// Method, as `steward types TYPE` lists it.
    method: String,

    /// Its arguments.
    #[arg(allow_negative_numbers = true)]
    args: Vec<String>,

    /// Seconds that the call may wait in the host; 0 does not wait. [default: for ever]
    #[arg(long, value_name = "SECONDS", value_parser = seconds)]
    timeout: Option<Duration>,

    #[command(flatten)]
    pub(crate) format: Format,

    #[command(flatten)]
    connect: Connect,
}

const EXAMPLES: &str = "\
Examples:
  steward call Queue/jobs put '{\"id\": 7}'       # makes the queue if need be
  steward call jobs get --timeout 5              # raises Empty after 5 seconds: exit status 1
  steward call dict/config update debug=true
  steward call '#41' qsize --json

Arguments are JSON where they parse as JSON, else text; `n=2` is a keyword argument.
  7  true  '[1, 2]'  '{\"a\": 1}'  null      JSON
  hello                                   text, as '\"hello\"' is
  '\"7\"'  '\"a=b\"'                          text that would be taken for something else
  '{\"$bytes\": \"aGk=\"}'  '{\"$tuple\": [1]}'  '{\"$set\": [1]}'  '{\"$map\": [[1, \"x\"]]}'  '{\"$ref\": \"#41\"}'
An argument that starts with `-` and is no number follows `--`.";

impl Call {
    pub(crate) fn run(self) -> Outcome {
        let Self { target, method, args, timeout, format, connect } = self;
        let value = connect.run(async |manager| {
            let proxy = target.find(&manager).await?;
            let arguments = Arguments::read(&manager, &args).await?;
            let mut call = proxy.call_item(&method, arguments.args);
            if let Some(timeout) = timeout {
                call = call.timeout(timeout);
            }
            match call.await {
                Ok(item) => Value::decode(item.bytes())
                    .map_err(|error| Failure::new(Status::Raised, "NotDecodable", format!("result: {error}"))),
                Err(error) => Err(calling(&proxy, &method, error).await),
            }
        })?;
        format.value(&value)?;
        Ok(ExitCode::SUCCESS)
    }
}

/// Seconds with a fraction, as a duration.
pub(crate) fn seconds(text: &str) -> Result<Duration, String> {
    let seconds: f64 = text.parse().map_err(|_| format!("`{text}` is no number of seconds"))?;
    Duration::try_from_secs_f64(seconds).map_err(|error| format!("`{text}`: {error}"))
}
