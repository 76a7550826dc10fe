//! Rights as commands. Those of one agent that differ in nothing but the name share a command.

use std::fmt::Write as _;

use super::rights::{Operation, Pattern, Resource, Right};

/// Calls of `kafka-acls.sh`.
pub(super) fn kafka(rights: &[Right]) -> String {
    let mut out = String::from(
        "# Grants each agent the least rights it needs, and changes nothing else.\n\
         # ANABRANCH_KAFKA: host:port of a broker. KAFKA_ADMIN_CONFIG: client settings of an account that may do this.\n",
    );
    each_command(rights, &mut out, |first, same, out| {
        let _ = write!(
            out,
            "kafka-acls.sh --bootstrap-server \"$ANABRANCH_KAFKA\" --command-config \"${{KAFKA_ADMIN_CONFIG:-/dev/null}}\" \
             --add --allow-principal {}",
            quoted(&first.principal)
        );
        for operation in &first.operations {
            let _ = write!(out, " --operation {operation:?}");
        }
        arguments(first, same, "resource-pattern-type", out);
    });
    out
}

/// Calls of `rpk security acl create`. It reaches the cluster as its profile or its flags say.
pub(super) fn rpk(rights: &[Right]) -> String {
    let mut out = String::from("# Grants each agent the least rights it needs, and changes nothing else.\n");
    each_command(rights, &mut out, |first, same, out| {
        let operations: Vec<&str> = first
            .operations
            .iter()
            .map(|operation| match operation {
                Operation::Read => "read",
                Operation::Write => "write",
                Operation::DescribeConfigs => "describe_configs",
            })
            .collect();
        let (principal, operations) = (quoted(&first.principal), operations.join(","));
        let _ = write!(out, "rpk security acl create --allow-principal {principal} --operation {operations}");
        arguments(first, same, "resource-pattern-type", out);
    });
    out
}

fn arguments(first: &Right, same: &[&Right], pattern: &str, out: &mut String) {
    let resource = match first.resource {
        Resource::Topic => "topic",
        Resource::Group => "group",
        Resource::TransactionalId => "transactional-id",
    };
    for right in same {
        let _ = write!(out, " --{resource} {}", quoted(&right.name));
    }
    if first.pattern == Pattern::Prefixed {
        let _ = write!(out, " --{pattern} prefixed");
    }
    out.push('\n');
}

/// Calls `write` with the first of each set of rights that fit into one command, and all of them.
fn each_command(rights: &[Right], out: &mut String, write: impl Fn(&Right, &[&Right], &mut String)) {
    let key = |r: &Right| (r.agent.clone(), r.resource, r.pattern, r.operations.clone());
    let mut commands: Vec<Vec<&Right>> = Vec::new();
    for right in rights {
        match commands.iter_mut().find(|command| key(command[0]) == key(right)) {
            Some(command) => command.push(right),
            None => commands.push(vec![right]),
        }
    }
    let mut agent = "";
    for command in &commands {
        let first = command[0];
        if first.agent != agent {
            agent = &first.agent;
            let _ = writeln!(out, "\n# {agent}");
        }
        write(first, command, out);
    }
}

/// A word of a POSIX shell.
fn quoted(text: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "._-:/@".contains(c);
    if !text.is_empty() && text.chars().all(plain) {
        return text.to_owned();
    }
    format!("'{}'", text.replace('\'', r"'\''"))
}
