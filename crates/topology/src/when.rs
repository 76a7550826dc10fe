//! Expressions that say for which requests an agent is asked.

/// Longest expression, in bytes: operators in a row recurse, too.
const MAX_BYTES: usize = 1024;
/// Deepest brackets. The parser has no bound that holds on a thread's usual stack of 2 MiB: unoptimized, it overflows
/// at 11, which ends the process.
const MAX_DEPTH: usize = 6;
/// The parser's stack, in bytes: within the bounds above it took more than 2 MiB for an expression found by chance. Only
/// what is used of it is memory.
const STACK_BYTES: usize = 32 * 1024 * 1024;

/// Compiles CEL over `request`, within bounds: expressions come from files and, on agents' cards, over the wire.
///
/// # Errors
/// What is wrong with it, in one line.
pub fn compile_when(when: &str) -> Result<cel::Program, String> {
    if when.trim().is_empty() {
        return Err("an empty expression".to_owned());
    }
    if when.len() > MAX_BYTES {
        return Err(format!("an expression of {} bytes; at most {MAX_BYTES}", when.len()));
    }
    if depth(when) > MAX_DEPTH {
        return Err(format!("brackets nested more than {MAX_DEPTH} deep"));
    }
    let program = parse(when)?;
    unknown_variables(&program).map_or(Ok(program), Err)
}

/// Parses on a stack of its own: how deep the parser recurses depends on more than brackets.
fn parse(when: &str) -> Result<cel::Program, String> {
    std::thread::scope(|scope| {
        let thread = std::thread::Builder::new().stack_size(STACK_BYTES).spawn_scoped(scope, || parse_here(when));
        let parsed = thread.map_err(|error| format!("no thread to read it in: {error}"))?.join();
        parsed.unwrap_or_else(|_| Err("no CEL expression: the parser gave up".to_owned()))
    })
}

fn parse_here(when: &str) -> Result<cel::Program, String> {
    cel::Program::compile(when).map_err(|errors| {
        let first = errors.errors.first().and_then(|e| e.msg.lines().next()).unwrap_or_default();
        // The parser lists every token that could follow; what it met is enough.
        let met = first.split(" expecting ").next().unwrap_or_default();
        format!("no CEL expression: {}", met.trim_start_matches("Syntax error: "))
    })
}

/// How deep brackets nest; those in texts count too.
fn depth(when: &str) -> usize {
    let (mut depth, mut deepest) = (0usize, 0usize);
    for c in when.chars() {
        match c {
            '(' | '[' | '{' => depth += 1,
            ')' | ']' | '}' => depth = depth.saturating_sub(1),
            _ => {}
        }
        deepest = deepest.max(depth);
    }
    deepest
}

/// An expression with variables but without `request` always fails. The variables of macros (`x.all(i, …)`) are among
/// those named, so one beside `request` cannot be told from a mistake.
fn unknown_variables(program: &cel::Program) -> Option<String> {
    let references = program.references();
    let mut names: Vec<&str> = references.variables().into_iter().collect();
    names.sort_unstable();
    (!names.is_empty() && !references.has_variable("request"))
        .then(|| format!("there is no `{}`: the only variable is `request`", names.join("`, `")))
}
