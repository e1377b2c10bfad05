//! Values and dashes as Go programs accept them.

use std::{ffi::OsString, time::Duration};

use clap::Command;

/// Go's `time.ParseDuration`, less the negative: `300ms`, `1.5h`, `2h45m`, `+15s`, `0`.
pub(super) fn parse_duration(text: &str) -> Result<Duration, String> {
    let explain = || "write a duration such as 500ms, 15s or 1m30s".to_owned();
    let text = text.strip_prefix('+').unwrap_or(text);
    if text == "0" {
        return Ok(Duration::ZERO);
    }
    if text.is_empty() {
        return Err(explain());
    }
    let mut rest = text;
    let mut total = Duration::ZERO;
    while !rest.is_empty() {
        let digits = rest
            .find(|c: char| !c.is_ascii_digit() && c != '.')
            .ok_or_else(explain)?;
        let (number, tail) = rest.split_at(digits);
        let unit_end = tail
            .find(|c: char| c.is_ascii_digit() || c == '.')
            .unwrap_or(tail.len());
        let (unit, tail) = tail.split_at(unit_end);
        let nanoseconds = match unit {
            "ns" => 1.0,
            "us" | "µs" | "μs" => 1e3,
            "ms" => 1e6,
            "s" => 1e9,
            "m" => 60e9,
            "h" => 3600e9,
            _ => return Err(explain()),
        };
        let number: f64 = number.parse().map_err(|_| explain())?;
        let part = Duration::try_from_secs_f64(number * nanoseconds / 1e9).map_err(|_| explain())?;
        total = total.checked_add(part).ok_or_else(explain)?;
        rest = tail;
    }
    Ok(total)
}

/// Go's `strconv.ParseBool`.
pub(super) fn parse_bool(text: &str) -> Result<bool, String> {
    match text {
        "1" | "t" | "T" | "true" | "TRUE" | "True" => Ok(true),
        "0" | "f" | "F" | "false" | "FALSE" | "False" => Ok(false),
        _ => Err("write true or false".to_owned()),
    }
}

pub(super) fn parse_http2(text: &str) -> Result<bool, String> {
    if parse_bool(text)? {
        return Err("HTTP/2 is not served here; remove the flag".to_owned());
    }
    Ok(false)
}

/// Gives a second dash to arguments that name a long flag of `command` or its subcommands with one, as Go allows.
///
/// Clusters of short flags stay as they are, and so does all that follows `--`.
pub(super) fn double_dashed(command: &Command, arguments: impl Iterator<Item = OsString>) -> Vec<OsString> {
    let mut known = Vec::new();
    collect_long(command, &mut known);
    let mut literal = false;
    arguments
        .map(|argument| {
            literal |= argument == "--";
            let name = argument.to_str().and_then(|text| text.strip_prefix('-'));
            let name = name.map(|text| text.split_once('=').map_or(text, |(name, _)| name));
            match name {
                Some(name) if !literal && name.len() > 1 && known.iter().any(|long| long == name) => {
                    let mut doubled = OsString::from("-");
                    doubled.push(&argument);
                    doubled
                }
                _ => argument,
            }
        })
        .collect()
}

/// Lets the last occurrence of a flag count, in commands with the flags of operators. A command for people goes on to refuse
/// what is given twice: nobody can tell which of two partitions was meant.
pub(super) fn last_wins(command: Command) -> Command {
    let operator = command
        .get_arguments()
        .any(|argument| argument.get_id() == "leader_elect");
    let command = command.mut_subcommands(last_wins);
    if operator {
        command.args_override_self(true)
    } else {
        command
    }
}

fn collect_long(command: &Command, known: &mut Vec<String>) {
    known.extend(
        command
            .get_arguments()
            .filter_map(|argument| argument.get_long())
            .map(str::to_owned),
    );
    for subcommand in command.get_subcommands() {
        collect_long(subcommand, known);
    }
}
