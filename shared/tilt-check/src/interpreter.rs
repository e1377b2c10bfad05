//! The program that runs the language, asked line by line.

use std::{
    io::{BufRead, BufReader, Write},
    path::Path,
    process::{Child, ChildStdin, Command, Stdio},
};

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use crate::{TiltError, signature};

/// A call of one of Tilt's functions.
#[derive(Debug, Deserialize)]
pub(crate) struct Call {
    /// Its name, modules before it.
    pub(crate) name: String,
    pub(crate) args: Vec<Value>,
    pub(crate) kwargs: Map<String, Value>,
    /// The file that is being executed: paths are relative to its folder.
    pub(crate) file: String,
    /// File, line and column of the call.
    pub(crate) at: String,
}

/// What the call gives.
#[derive(Debug, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Answer {
    Value(Value),
    Error(String),
    /// Ends the evaluation without an error.
    Stop(bool),
    #[serde(untagged)]
    Run {
        /// Another file to execute.
        run: String,
        /// Whether its variables are the value.
        globals: bool,
    },
}

#[derive(Deserialize)]
#[serde(tag = "op", rename_all = "lowercase")]
enum Message {
    Call(Call),
    Load { path: String, file: String, at: String },
    Print { text: String },
    End { error: Option<String> },
}

/// Whoever answers the calls.
pub(crate) trait Host {
    fn call(&mut self, call: &Call) -> Answer;
    /// The file behind the path of a load statement.
    fn load(&mut self, path: &str, file: &str) -> Answer;
    fn print(&mut self, text: String);
}

/// Executes `file`; inside is why Tilt would refuse it.
pub(crate) fn run(
    program: &Path,
    file: &Path,
    constants: &Value,
    host: &mut dyn Host,
) -> Result<Result<(), String>, TiltError> {
    let failed = |why: String| TiltError::Interpreter {
        program: program.to_owned(),
        why,
    };
    let mut child = Running(
        Command::new(program)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .map_err(|error| failed(error.to_string()))?,
    );
    let (Some(mut input), Some(output)) = (child.0.stdin.take(), child.0.stdout.take()) else {
        return Err(failed("has no pipes".to_owned()));
    };
    let mut say = |value: &Value| tell(&mut input, value).map_err(|error| failed(error.to_string()));
    say(&json!({ "file": file, "names": signature::names(constants) }))?;
    for line in BufReader::new(output).lines() {
        let line = line.map_err(|error| failed(error.to_string()))?;
        let message: Message =
            serde_json::from_str(&line).map_err(|error| failed(format!("{error} in {line}")))?;
        let answer = match message {
            Message::Call(call) => match host.call(&call) {
                Answer::Error(why) => Answer::Error(format!("{}: {why}", call.at)),
                answer => answer,
            },
            Message::Load { path, file, at } => match host.load(&path, &file) {
                Answer::Error(why) => Answer::Error(format!("{at}: {why}")),
                answer => answer,
            },
            Message::Print { text } => {
                host.print(text);
                continue;
            }
            Message::End { error } => return Ok(error.map_or(Ok(()), Err)),
        };
        let answer = serde_json::to_value(answer).map_err(|error| failed(error.to_string()))?;
        say(&answer)?;
    }
    Err(failed("ended without saying how".to_owned()))
}

fn tell(input: &mut ChildStdin, value: &Value) -> std::io::Result<()> {
    writeln!(input, "{value}")
}

/// Ends with its value.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        // It may have ended.
        self.0.kill().ok();
        self.0.wait().ok();
    }
}
