//! A line that is being typed: editing, history, completion. What a terminal needs beside it is at the end.
//!
//! Small on purpose: one line, characters of one column, the keys that everybody's fingers know.

use std::io::{self, Read as _, Write as _};
use std::path::PathBuf;

use rustix::termios::{LocalModes, OptionalActions, SpecialCodeIndex, Termios, tcgetattr, tcgetwinsize, tcsetattr};

/// Lines that are remembered.
const HISTORY_MAX: usize = 1_000;

/// Characters of a line.
const LINE_CHARS_MAX: usize = 10_000;

/// What stands before a line.
const PROMPT: &str = "> ";

/// What a key led to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Typed {
    /// Nothing but another look of the line.
    More,
    /// A line is done.
    Line(String),
    /// No more lines.
    End,
    /// Several words are possible.
    Choices(Vec<String>),
}

/// The line, and those before it.
#[derive(Debug, Default)]
pub(super) struct Editor {
    chars: Vec<char>,
    /// Where the next character goes.
    at: usize,
    history: Vec<String>,
    /// Which line of the history is shown, and what was typed before.
    shown: Option<(usize, Vec<char>)>,
    /// Bytes of a key that has several.
    pending: Vec<u8>,
}

impl Editor {
    pub(super) fn new(history: Vec<String>) -> Self {
        Self { history, ..Self::default() }
    }

    pub(super) fn history(&self) -> &[String] {
        &self.history
    }

    /// What is to be seen of the line in so many columns, and how many characters the cursor stands before the end of that.
    ///
    /// A long line moves by half a screen at a time, so that what is around the cursor can be read.
    pub(super) fn look(&self, columns: usize) -> (String, usize) {
        let columns = columns.max(2);
        let half = columns / 2;
        let start = if self.at < columns { 0 } else { (self.at / half - 1) * half };
        // The last column is the cursor's: a character there would move it to the next row.
        let end = self.chars.len().min(start + columns - 1).max(self.at);
        (self.chars[start..end].iter().collect(), end - self.at)
    }

    /// Takes a byte from the terminal. `complete` gives the words that may stand at the end of a text, and how many
    /// characters of the text they replace.
    pub(super) fn feed(&mut self, byte: u8, complete: impl Fn(&str) -> (usize, Vec<String>)) -> Typed {
        self.pending.push(byte);
        match &self.pending[..] {
            // An escape sequence ends with a letter or `~`; what it says may be nothing that is known here.
            [0x1b] | [0x1b, b'[' | b'O'] => return Typed::More,
            [0x1b, b'[' | b'O', middle @ .., last] => {
                if !(last.is_ascii_alphabetic() || *last == b'~') && middle.len() < 8 {
                    return Typed::More;
                }
                let (last, middle) = (*last, middle.to_vec());
                self.pending.clear();
                match (last, &middle[..]) {
                    (b'A', _) => self.browse(true),
                    (b'B', _) => self.browse(false),
                    (b'C', _) => self.at = (self.at + 1).min(self.chars.len()),
                    (b'D', _) => self.at = self.at.saturating_sub(1),
                    (b'H', _) | (b'~', b"1" | b"7") => self.at = 0,
                    (b'F', _) | (b'~', b"4" | b"8") => self.at = self.chars.len(),
                    (b'~', b"3") if self.at < self.chars.len() => drop(self.chars.remove(self.at)),
                    _ => {}
                }
                return Typed::More;
            }
            [0x1b, _] => {
                self.pending.clear();
                return Typed::More;
            }
            bytes => match std::str::from_utf8(bytes) {
                Ok(text) => {
                    let char = text.chars().next().expect("there is a byte");
                    self.pending.clear();
                    return self.key(char, complete);
                }
                // The rest of the character is to come.
                Err(error) if error.error_len().is_none() => {}
                Err(_) => self.pending.clear(),
            },
        }
        Typed::More
    }

    fn key(&mut self, char: char, complete: impl Fn(&str) -> (usize, Vec<String>)) -> Typed {
        match char {
            '\r' | '\n' => {
                let line: String = std::mem::take(&mut self.chars).into_iter().collect();
                (self.at, self.shown) = (0, None);
                if !line.trim().is_empty() && self.history.last() != Some(&line) {
                    self.history.push(line.clone());
                    let surplus = self.history.len().saturating_sub(HISTORY_MAX);
                    self.history.drain(..surplus);
                }
                return Typed::Line(line);
            }
            // Ctrl-D.
            '\u{4}' if self.chars.is_empty() => return Typed::End,
            // Ctrl-C gives the line up.
            '\u{3}' => {
                self.chars.clear();
                (self.at, self.shown) = (0, None);
                return Typed::Line(String::new());
            }
            '\t' => return self.complete(complete),
            '\u{1}' => self.at = 0,
            '\u{5}' => self.at = self.chars.len(),
            '\u{15}' => {
                self.chars.drain(..self.at);
                self.at = 0;
            }
            '\u{b}' => self.chars.truncate(self.at),
            '\u{17}' => {
                let kept = self.chars[..self.at].iter().rposition(|char| !char.is_whitespace()).map_or(0, |last| {
                    self.chars[..last].iter().rposition(|char| char.is_whitespace()).map_or(0, |space| space + 1)
                });
                self.chars.drain(kept..self.at);
                self.at = kept;
            }
            '\u{7f}' | '\u{8}' if self.at > 0 => {
                self.at -= 1;
                self.chars.remove(self.at);
            }
            char if !char.is_control() && self.chars.len() < LINE_CHARS_MAX => {
                self.chars.insert(self.at, char);
                self.at += 1;
            }
            _ => {}
        }
        Typed::More
    }

    fn browse(&mut self, back: bool) {
        let typed = || self.chars.clone();
        let (shown, typed) = self.shown.take().unwrap_or_else(|| (self.history.len(), typed()));
        let next = if back { shown.saturating_sub(1) } else { shown + 1 };
        match self.history.get(next) {
            Some(line) => {
                self.chars = line.chars().collect();
                self.shown = Some((next, typed));
            }
            None => self.chars = typed,
        }
        self.at = self.chars.len();
    }

    fn complete(&mut self, complete: impl Fn(&str) -> (usize, Vec<String>)) -> Typed {
        let before: String = self.chars[..self.at].iter().collect();
        let (replaced, words) = complete(&before);
        let Some(first) = words.first() else { return Typed::More };
        // As far as all of them go.
        let common = words.iter().fold(first.len(), |common, word| {
            first.bytes().zip(word.bytes()).take(common).take_while(|(a, b)| a == b).count()
        });
        if words.len() > 1 && common <= replaced {
            return Typed::Choices(words);
        }
        let Some(common) = first.get(..common) else { return Typed::Choices(words) };
        let start = self.at - replaced.min(self.at);
        self.chars.splice(start..self.at, common.chars());
        self.at = start + common.chars().count();
        Typed::More
    }
}

/// A terminal that a person types at, and the file of what was typed.
pub(super) struct Terminal {
    editor: Editor,
    history_file: Option<PathBuf>,
}

impl Terminal {
    /// `history_file`: without one, nothing is remembered.
    pub(super) fn new(history_file: Option<PathBuf>) -> Self {
        // There may be none yet.
        let history = history_file.as_ref().and_then(|file| std::fs::read_to_string(file).ok()).unwrap_or_default();
        Self { editor: Editor::new(history.lines().map(str::to_owned).collect()), history_file }
    }

    /// Asks for a line; none if there are no more.
    pub(super) fn line(&mut self, complete: impl Fn(&str) -> (usize, Vec<String>)) -> io::Result<Option<String>> {
        // Only while somebody types: an interrupt ends a guest that runs as it ends any program.
        let _raw = Raw::begin()?;
        let mut stdin = io::stdin().lock();
        self.show()?;
        loop {
            let mut byte = [0];
            let typed = match stdin.read(&mut byte)? {
                0 => Typed::End,
                _ => self.editor.feed(byte[0], &complete),
            };
            match typed {
                Typed::More => self.show()?,
                Typed::Choices(words) => {
                    write(&format!("\r\n{}\r\n", words.join("  ")))?;
                    self.show()?;
                }
                Typed::Line(line) => {
                    write("\r\n")?;
                    return Ok(Some(line));
                }
                Typed::End => {
                    write("\r\n")?;
                    self.remember();
                    return Ok(None);
                }
            }
        }
    }

    fn show(&self) -> io::Result<()> {
        // A terminal that does not know its width is taken to be as wide as need be.
        let columns = tcgetwinsize(io::stdin()).map_or(0, |size| usize::from(size.ws_col));
        let columns = if columns == 0 { LINE_CHARS_MAX + 1 } else { columns.saturating_sub(PROMPT.len()) };
        let (line, behind) = self.editor.look(columns);
        let back = if behind > 0 { format!("\x1b[{behind}D") } else { String::new() };
        write(&format!("\r{PROMPT}{line}\x1b[K{back}"))
    }

    /// Writes the history; that it cannot be is no reason to disturb anybody.
    pub(super) fn remember(&self) {
        if let Some(file) = &self.history_file {
            let _ = file.parent().map(std::fs::create_dir_all);
            let _ = std::fs::write(file, self.editor.history().join("\n"));
        }
    }
}

/// Whoever stops reading gets an error here, and no panic.
fn write(text: &str) -> io::Result<()> {
    let mut stdout = io::stdout().lock();
    stdout.write_all(text.as_bytes())?;
    stdout.flush()
}

/// A terminal that hands over each key by itself, until this is dropped.
struct Raw(Termios);

impl Raw {
    fn begin() -> io::Result<Self> {
        let before = tcgetattr(io::stdin())?;
        let mut raw = before.clone();
        raw.local_modes -= LocalModes::ICANON | LocalModes::ECHO | LocalModes::ISIG | LocalModes::IEXTEN;
        raw.special_codes[SpecialCodeIndex::VMIN] = 1;
        raw.special_codes[SpecialCodeIndex::VTIME] = 0;
        tcsetattr(io::stdin(), OptionalActions::Drain, &raw)?;
        Ok(Self(before))
    }
}

impl Drop for Raw {
    fn drop(&mut self) {
        // Nobody is left to tell.
        let _ = tcsetattr(io::stdin(), OptionalActions::Drain, &self.0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(before: &str) -> (usize, Vec<String>) {
        let known = ["acquire", "available", "help"];
        let word = before.rsplit(['.', ' ']).next().unwrap();
        let fitting = known.iter().filter(|known| known.starts_with(word)).map(|word| (*word).to_owned());
        (word.chars().count(), fitting.collect())
    }

    /// Types keys; what the last one led to, and the line as it is then.
    #[track_caller]
    fn check(editor: &mut Editor, keys: &str, typed: Typed, line: &str) {
        let last = keys.bytes().map(|byte| editor.feed(byte, words)).last().unwrap();
        assert_eq!((last, editor.look(80).0.as_str()), (typed, line), "{keys:?}");
    }

    #[test]
    fn keys_edit_the_line_where_the_cursor_is() {
        let editor = &mut Editor::default();
        check(editor, "acé", Typed::More, "acé");
        check(editor, "\x1b[Db", Typed::More, "acbé");
        check(editor, "\x7f\x1b[H>", Typed::More, ">acé");
        check(editor, "\x1b[3~", Typed::More, ">cé");
        check(editor, "\x1b[F two\x17", Typed::More, ">cé ");
        check(editor, "\x15x\x1b[1;5Z", Typed::More, "x");
        check(editor, "\r", Typed::Line("x".into()), "");
        check(editor, "y\x03", Typed::Line(String::new()), "");
        check(editor, "\x04", Typed::End, "");
    }

    #[test]
    fn history_goes_back_and_returns_to_what_was_typed() {
        let editor = &mut Editor::new(vec!["one".into()]);
        check(editor, "two\r", Typed::Line("two".into()), "");
        check(editor, "thr\x1b[A", Typed::More, "two");
        check(editor, "\x1b[A\x1b[A", Typed::More, "one");
        check(editor, "\x1b[B\x1b[B", Typed::More, "thr");
        check(editor, "\x15\x1b[A\r", Typed::Line("two".into()), "");
        assert_eq!(editor.history(), ["one", "two"], "the same line twice is one");
    }

    #[test]
    fn words_are_completed_as_far_as_they_are_clear() {
        let editor = &mut Editor::default();
        check(editor, "r.ac\t", Typed::More, "r.acquire");
        check(editor, "\x15r.a\t", Typed::Choices(vec!["acquire".into(), "available".into()]), "r.a");
        check(editor, "\x15nothing\t", Typed::More, "nothing");
    }

    #[test]
    fn line_longer_than_the_screen_shows_what_is_around_the_cursor() {
        let editor = &mut Editor::default();
        for (typed, seen, behind) in [
            ("abcdefg", "abcdefg", 0),
            ("hij", "efghij", 0),
            ("kl", "ijkl", 0),
            ("\x1b[D\x1b[D\x1b[D", "efghijk", 2),
            ("\x1b[D\x1b[D", "abcdefg", 0),
            ("\x01", "abcdefg", 7),
            ("\x05", "ijkl", 0),
        ] {
            typed.bytes().for_each(|byte| drop(editor.feed(byte, words)));
            assert_eq!(editor.look(8), (seen.to_owned(), behind), "{typed:?}");
        }
        for columns in 0..20 {
            for at in 0..=12 {
                editor.at = at;
                let (seen, behind) = editor.look(columns);
                assert!(seen.len() - behind < columns.max(2), "the cursor is on the screen: {columns}, {at}");
            }
        }
    }

    #[test]
    fn bytes_that_are_no_text_are_passed_over() {
        let editor = &mut Editor::default();
        for byte in [b'a', 0xff, 0xc3, b'b', 0x1b, b'x', b'c'] {
            assert_eq!(editor.feed(byte, words), Typed::More);
        }
        assert_eq!(editor.look(80).0, "ac");
    }
}
