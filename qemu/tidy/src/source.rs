//! A Rust file as the rules see it: its text, and the same text with comments, strings and test code blanked out. Line
//! breaks stay where they are, so that a place in one is a place in the other.

/// One Rust file.
#[derive(Clone, Debug)]
pub struct Source {
    /// From the top of the tree, with `/`.
    pub path: String,
    /// As it stands in the file.
    pub text: String,
    /// Without comments, string and character literals: blanks stand for them.
    pub code: String,
    /// `code` without items under `#[cfg(test)]`; empty for a file that is only test code.
    pub product: String,
}

impl Source {
    /// Reads a file's text. `only_tests`: the whole file is test code.
    pub fn new(path: &str, text: &str, only_tests: bool) -> Self {
        let code = blank_literals(text);
        let product = if only_tests { String::new() } else { blank_tests(&code) };
        Self { path: path.into(), text: text.into(), code, product }
    }

    /// Lines that are not in test code. Comments count.
    pub fn product_lines(&self) -> usize {
        if self.product.is_empty() {
            return 0;
        }
        let tests = self.code.lines().zip(self.product.lines()).filter(|(code, product)| code != product).count();
        self.text.lines().count() - tests
    }

    /// Line number, from 1, of a byte position.
    pub fn line_of(&self, at: usize) -> usize {
        self.code.as_bytes().iter().take(at).filter(|b| **b == b'\n').count() + 1
    }

    /// Names of modules that are declared without a body under `#[cfg(test)]`: their files are test code.
    pub fn test_modules(&self) -> Vec<String> {
        let mut names = Vec::new();
        for part in self.code.split("#[cfg(test)]").skip(1) {
            let mut words = part.split_whitespace();
            let mut word = words.next();
            while word.is_some_and(|w| w.starts_with("pub") || w.starts_with("#[")) {
                word = words.next();
            }
            if word == Some("mod")
                && let Some(name) = words.next().and_then(|w| w.strip_suffix(';'))
            {
                names.push(name.into());
            }
        }
        names
    }
}

/// Places of a word in code, as whole words.
pub fn words<'c>(code: &'c str, word: &'c str) -> impl Iterator<Item = usize> + 'c {
    let part_of_word = |b: Option<&u8>| b.is_some_and(|b| b.is_ascii_alphanumeric() || *b == b'_');
    code.match_indices(word).map(|(at, _)| at).filter(move |at| {
        let bytes = code.as_bytes();
        let before = at.checked_sub(1).and_then(|i| bytes.get(i));
        !part_of_word(before) && !part_of_word(bytes.get(at + word.len()))
    })
}

/// The place after the brace that closes the one at `open`.
pub fn closing(code: &str, open: usize) -> usize {
    let mut depth = 0usize;
    for (i, b) in code.bytes().enumerate().skip(open) {
        match b {
            b'{' => depth += 1,
            b'}' => {
                depth = depth.saturating_sub(1);
                if depth == 0 {
                    return i + 1;
                }
            }
            _ => {}
        }
    }
    code.len()
}

fn blank(out: &mut [u8], from: usize, to: usize) {
    for b in out.iter_mut().take(to).skip(from).filter(|b| **b != b'\n') {
        *b = b' ';
    }
}

fn blank_literals(text: &str) -> String {
    let bytes = text.as_bytes();
    let mut out = bytes.to_vec();
    let mut i = 0;
    while i < bytes.len() {
        let end = literal_end(bytes, i);
        if end > i {
            blank(&mut out, i, end);
            i = end;
        } else {
            i += 1;
        }
    }
    // Only whole literals were blanked, byte by byte: what is left is text still.
    String::from_utf8_lossy(&out).into_owned()
}

/// Where the comment, string or character that begins at `i` ends; `i` if none begins there.
fn literal_end(bytes: &[u8], i: usize) -> usize {
    let rest = &bytes[i..];
    let line_end = || bytes.iter().skip(i).position(|b| *b == b'\n').map_or(bytes.len(), |n| i + n);
    if rest.starts_with(b"//") {
        return line_end();
    }
    if rest.starts_with(b"/*") {
        return block_comment_end(bytes, i);
    }
    if rest.starts_with(b"\"") {
        return string_end(bytes, i + 1);
    }
    let word_before = i > 0 && (bytes[i - 1].is_ascii_alphanumeric() || bytes[i - 1] == b'_');
    if rest.starts_with(b"r\"") || rest.starts_with(b"r#") {
        // `br"…"` has its `b` before.
        let hashes = rest[1..].iter().take_while(|b| **b == b'#').count();
        if rest.get(1 + hashes) == Some(&b'"') && (!word_before || bytes[i - 1] == b'b') {
            let close: Vec<u8> = std::iter::once(b'"').chain(std::iter::repeat_n(b'#', hashes)).collect();
            let from = i + 2 + hashes;
            let at = bytes[from..].windows(close.len()).position(|w| w == close);
            return at.map_or(bytes.len(), |n| from + n + close.len());
        }
    }
    if rest.starts_with(b"'") {
        return character_end(bytes, i);
    }
    i
}

fn block_comment_end(bytes: &[u8], from: usize) -> usize {
    let (mut depth, mut i) = (0usize, from);
    while i < bytes.len() {
        if bytes[i..].starts_with(b"/*") {
            depth += 1;
            i += 2;
        } else if bytes[i..].starts_with(b"*/") {
            depth -= 1;
            i += 2;
            if depth == 0 {
                return i;
            }
        } else {
            i += 1;
        }
    }
    i
}

fn string_end(bytes: &[u8], from: usize) -> usize {
    let mut i = from;
    while i < bytes.len() {
        match bytes[i] {
            b'\\' => i += 2,
            b'"' => return i + 1,
            _ => i += 1,
        }
    }
    bytes.len()
}

/// A character literal, unless it is a lifetime.
fn character_end(bytes: &[u8], i: usize) -> usize {
    if bytes.get(i + 1) == Some(&b'\\') {
        let from = i + 3;
        return bytes
            .get(from..)
            .and_then(|b| b.iter().position(|b| *b == b'\''))
            .map_or(bytes.len(), |n| from + n + 1);
    }
    // One character of up to four bytes, then the closing quote.
    let text = String::from_utf8_lossy(&bytes[i + 1..bytes.len().min(i + 5)]);
    let Some(c) = text.chars().next() else { return i };
    let close = i + 1 + c.len_utf8();
    if bytes.get(close) == Some(&b'\'') { close + 1 } else { i }
}

fn blank_tests(code: &str) -> String {
    let mut out = code.as_bytes().to_vec();
    let mut from = 0;
    while let Some(at) = code.get(from..).and_then(|c| c.find("#[cfg(test)]")).map(|n| from + n) {
        let body = code[at..].find(['{', ';']).map_or(code.len(), |n| at + n);
        let end =
            if code.as_bytes().get(body) == Some(&b'{') { closing(code, body) } else { (body + 1).min(code.len()) };
        blank(&mut out, at, end);
        from = end;
    }
    String::from_utf8_lossy(&out).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn comments_and_literals_are_no_code() {
        let source = Source::new(
            "x.rs",
            "let a = \"dbg!(\\\"\"; // dbg!()\n/* dbg!( /* */ */ let b = r#\"dbg!(\"#; let c = '\"'; let d: &'a u8 = '\\'';",
            false,
        );
        assert!(!source.code.contains("dbg!"), "{}", source.code);
        assert!(source.code.contains("let d: &'a u8 ="));
        assert_eq!(source.text.lines().count(), source.code.lines().count());
    }

    #[test]
    fn test_code_is_no_product() {
        let text = "fn a() {}\n#[cfg(test)]\nmod tests {\n    fn b() { {} }\n}\nfn c() {}\n";
        let source = Source::new("x.rs", text, false);
        assert!(source.product.contains("fn a") && source.product.contains("fn c") && !source.product.contains("fn b"));
        assert_eq!(source.product_lines(), 2);
        assert_eq!(Source::new("x.rs", text, true).product_lines(), 0);
    }

    #[test]
    fn a_test_module_may_be_a_file() {
        let source = Source::new("x.rs", "#[cfg(test)]\npub(crate) mod fake;\n#[cfg(test)] mod tests { }", false);
        assert_eq!(source.test_modules(), ["fake"]);
    }

    #[test]
    fn words_are_whole() {
        assert_eq!(words("unsafe_op unsafe {", "unsafe").count(), 1);
    }
}
