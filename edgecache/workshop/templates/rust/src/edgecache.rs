//! The fast lane of edgecache: a core module with `memory`, `alloc` and `handle`, and the one import it may have.
//!
//! Nothing is ever freed: the sandbox is gone when the call ends.

/// A request: `METHOD TARGET\nname: value\n...\n\nBODY`. A body that is not UTF-8 ends the call.
pub struct Request<'a> {
    head: &'a str,
    pub body: &'a str,
}

impl<'a> Request<'a> {
    fn of(raw: &'a str) -> Self {
        let (head, body) = raw.split_once("\n\n").unwrap_or((raw, ""));
        Request { head, body }
    }

    /// The value of a header, by its name in lower case.
    pub fn header(&self, name: &str) -> Option<&'a str> {
        self.head.lines().skip(1).find_map(|line| line.strip_prefix(name)?.strip_prefix(": "))
    }
}

/// An answer: `STATUS\nname: value\n...\n\nBODY`.
pub struct Answer {
    pub status: u16,
    pub headers: Vec<(&'static str, String)>,
    pub body: String,
}

impl Answer {
    fn raw(&self) -> String {
        let mut raw = format!("{}\n", self.status);
        for (name, value) in &self.headers {
            raw += &format!("{}: {}\n", name, value);
        }
        raw + "\n" + &self.body
    }
}

/// `text` as it stands inside a JSON string.
pub fn escaped(text: &str) -> String {
    let mut made = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '"' | '\\' => made.extend(['\\', c]),
            c if (c as u32) < 0x20 => made += &format!("\\u{:04x}", c as u32),
            c => made.push(c),
        }
    }
    made
}

#[no_mangle]
pub extern "C" fn alloc(size: usize) -> *mut u8 {
    let mut made = Vec::<u8>::with_capacity(size.max(1));
    let at = made.as_mut_ptr();
    std::mem::forget(made);
    at
}

#[no_mangle]
pub extern "C" fn handle(at: *const u8, size: usize) -> u64 {
    let raw = unsafe { std::slice::from_raw_parts(at, size) };
    let text = match std::str::from_utf8(raw) {
        Ok(text) => text,
        Err(_) => std::process::abort(),
    };
    match crate::handle(&Request::of(text)) {
        None => 0,
        Some(answer) => packed(answer.raw().into_bytes()),
    }
}

fn packed(made: Vec<u8>) -> u64 {
    let (at, size) = (made.as_ptr() as u64, made.len() as u64);
    std::mem::forget(made);
    at << 32 | size
}

mod host {
    #[link(wasm_import_module = "edgecache")]
    extern "C" {
        pub fn call(op: *const u8, op_len: usize, argument: *const u8, argument_len: usize) -> u64;
    }
}

/// The answer to operation `op`: `=` and netstrings, or `!code\nmessage`.
#[allow(dead_code)]
pub fn call(op: &str, fields: &[&[u8]]) -> Vec<u8> {
    let mut argument = Vec::new();
    for field in fields {
        argument.extend_from_slice(format!("{}:", field.len()).as_bytes());
        argument.extend_from_slice(field);
        argument.push(b',');
    }
    let answer = unsafe { host::call(op.as_ptr(), op.len(), argument.as_ptr(), argument.len()) };
    unsafe { std::slice::from_raw_parts((answer >> 32) as *const u8, answer as u32 as usize) }.to_vec()
}

/// A line in the log that `edgecache fn tail` shows.
#[allow(dead_code)]
pub fn log(level: &str, line: &str) {
    call("log", &[level.as_bytes(), line.as_bytes()]);
}
