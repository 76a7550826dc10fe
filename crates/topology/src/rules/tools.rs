//! Tools: servers that can be reached, lists that name something, secrets that are not written down.

use super::{Facts, line_of};
use crate::diagnostic::{Path, Report, suggest};
use crate::names::is_role;
use crate::tools::{McpLine, ToolsLine};

/// Checks the lines of all agents.
pub(super) fn check(facts: &Facts<'_>, report: &mut Report<'_>) {
    for (name, line) in facts.lines() {
        let Some(tools) = &line.tools else { continue };
        let at = line_of(name).key("tools");
        if is_role(name) {
            report.error(
                &at,
                format!("the {name} has no tools: only agents that get tasks call them"),
                "remove the line",
            );
            continue;
        }
        allowed(tools, &at, report);
        for (server, line) in tools.mcp.iter().flatten() {
            let at = at.key("mcp").key(server);
            server_name(server, &at, report);
            match line {
                Some(line) => server_line(line, &at, report),
                None => report.error(
                    &at,
                    "it says neither `command` nor `url`",
                    "write `command: [program, argument]` or `url: https://…`",
                ),
            }
        }
    }
}

/// A name with a dot is a server's tool, and the server must be there.
fn allowed(tools: &ToolsLine, at: &Path, report: &mut Report<'_>) {
    let servers = || tools.mcp.iter().flatten().map(|(name, _)| name.as_str());
    for (i, name) in tools.allow.iter().flatten().enumerate() {
        let at = at.key("allow").index(i);
        match name.split_once('.') {
            Some((server, _)) if servers().any(|known| known == server) => {}
            Some((server, _)) => {
                report.error(&at, format!("no MCP server is called `{server}`"), suggest(server, servers()));
            }
            None if name.is_empty() || name == "*" => {
                report.error(&at, "it names no tool", "write a tool's name, `server.tool` or `server.*`");
            }
            None => {}
        }
    }
}

fn server_name(name: &str, at: &Path, report: &mut Report<'_>) {
    let plain = name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_' || b == b'-');
    if name.is_empty() || name.len() > 32 || !plain {
        report.error(
            at,
            "the name of an MCP server is 1 to 32 of a-z A-Z 0-9 _ -",
            "its tools are called `name.tool`: write a short name",
        );
    }
}

fn server_line(line: &McpLine, at: &Path, report: &mut Report<'_>) {
    match (&line.command, &line.url) {
        (Some(_), Some(_)) => {
            report.error(&at.key("url"), "the server has a `command` too", "keep one of the two");
        }
        (None, None) => {
            report.error(
                at,
                "it says neither `command` nor `url`",
                "write `command: [program, argument]` or `url: https://…`",
            );
        }
        (Some(command), None) if command.first().is_none_or(|program| program.trim().is_empty()) => {
            report.error(&at.key("command"), "it names no program", "write `[program, argument, …]`");
        }
        (None, Some(url)) => endpoint(url, line, at, report),
        (Some(_), None) => {}
    }
    let of_other = [
        ("env", line.env.is_some() && line.url.is_some(), "a server at a `url` has its own environment"),
        ("bearer_env", line.bearer_env.is_some() && line.url.is_none(), "a `command` is sent no token"),
        ("headers_env", line.headers_env.is_some() && line.url.is_none(), "a `command` is sent no headers"),
    ];
    for (field, _, message) in of_other.into_iter().filter(|(_, wrong, _)| *wrong) {
        report.error(&at.key(field), message, "remove the line");
    }
    let names = line.env.iter().flatten().enumerate().map(|(i, name)| (at.key("env").index(i), name));
    let names = names.chain(line.bearer_env.iter().map(|name| (at.key("bearer_env"), name)));
    let headers = line.headers_env.iter().flatten();
    let names = names.chain(headers.map(|(header, name)| (at.key("headers_env").key(header), name)));
    for (at, name) in names {
        variable(name, &at, report);
    }
}

/// A secret that is written where its name belongs is in a file that others read.
fn variable(name: &str, at: &Path, report: &mut Report<'_>) {
    let plain = name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_');
    let starts_well = name.bytes().next().is_some_and(|b| b.is_ascii_alphabetic() || b == b'_');
    if !plain || !starts_well || name.len() > 128 {
        let help = "write the name of the variable, such as `TOOLS_TOKEN`, and set it in the agent's environment";
        report.error(at, "it is no name of an environment variable", help);
    }
}

fn endpoint(url: &str, line: &McpLine, at: &Path, report: &mut Report<'_>) {
    let at = at.key("url");
    let rest = url.strip_prefix("https://").or_else(|| url.strip_prefix("http://"));
    let Some(rest) = rest.filter(|rest| !rest.is_empty() && !rest.starts_with('/')) else {
        report.error(&at, "it is no HTTP address", "write `https://host/path`");
        return;
    };
    let authority = rest.split('/').next().unwrap_or_default();
    if authority.contains('@') {
        report.error(
            &at,
            "a password in an address is in every log",
            "remove it, and name the variable that holds it in `bearer_env`",
        );
    }
    let sends_secrets = line.bearer_env.is_some() || line.headers_env.is_some();
    let here = ["127.0.0.1", "localhost", "[::1]"].iter().any(|host| authority.starts_with(host));
    if url.starts_with("http://") && sends_secrets && !here {
        report.warn(&at, "a secret is sent there unencrypted", "write `https://`");
    }
}
