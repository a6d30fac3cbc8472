//! What a pickle would build, without building it.
//!
//! A pickle is a program for a stack machine. The operations that name things, put them together and
//! remember them are followed; those that would import or call something leave a node that says what,
//! and nothing is ever run. Any other operation ends the reading.

use std::collections::HashMap;

/// Memory that reading any pickle may take.
const ROOM: u64 = 64 << 20;

/// Memory of a place on the stack, of what is remembered, and of an item: some room for growth is in it.
const PLACE: usize = 2 * size_of::<Value<'_>>();
const MEMO: usize = 3 * size_of::<Value<'_>>();
const ITEM: usize = size_of::<(Value<'_>, Value<'_>)>();

/// Most attributes of an object that are looked at: each may be asked for often.
const MAX_ATTRIBUTES: usize = 64;

/// Something that the program builds.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Value<'a> {
    Int(i64),
    Text(&'a str),
    /// The number of a node: values may share one, and be in themselves.
    Node(usize),
    /// A float, bytes, a truth value, nothing.
    Other,
}

/// What is made of other values.
#[derive(Debug, PartialEq)]
pub(super) struct Node<'a> {
    pub(super) kind: Kind<'a>,
    /// Items by key, or by index; what an object is given as its state has no key.
    pub(super) items: Vec<(Value<'a>, Value<'a>)>,
}

#[derive(Debug, PartialEq)]
pub(super) enum Kind<'a> {
    /// A tuple, a list or a set.
    Sequence,
    Dict,
    /// A class or function: its module and name.
    Global(&'a str, &'a str),
    /// Something that is outside the pickle, by what says which.
    Persistent(Value<'a>),
    /// What a function returns, or a class makes, of arguments.
    Call {
        function: Value<'a>,
        arguments: Value<'a>,
    },
}

/// All that a pickle builds.
#[derive(Debug)]
pub(super) struct Pickle<'a> {
    pub(super) nodes: Vec<Node<'a>>,
    pub(super) root: Value<'a>,
}

impl<'a> Pickle<'a> {
    /// Reads a pickle, whose memory it borrows. Takes 64 MiB more, and as much as is said.
    pub(super) fn read(bytes: &'a [u8], more: u64) -> Result<Self, String> {
        let mut machine = Machine {
            rest: bytes,
            stack: Vec::new(),
            marks: Vec::new(),
            memo: HashMap::new(),
            nodes: Vec::new(),
            deepest: 0,
            room: usize::try_from(ROOM.saturating_add(more)).unwrap_or(usize::MAX),
        };
        loop {
            let at = bytes.len() - machine.rest.len();
            let operation = machine.byte();
            if operation == Some(b'.') {
                let root = machine.pop().ok_or("its pickle ends without a result")?;
                return Ok(Pickle { nodes: machine.nodes, root });
            }
            operation.and_then(|operation| machine.step(operation)).ok_or_else(|| match operation {
                Some(_) if machine.room == 0 => format!("what is before byte {at} builds too much"),
                Some(operation) => {
                    format!("its pickle has operation {operation:#04x} at byte {at}, which is not followed here")
                }
                None => "its pickle is cut short".to_owned(),
            })?;
        }
    }

    pub(super) fn node(&self, value: Value<'a>) -> Option<&Node<'a>> {
        if let Value::Node(number) = value { self.nodes.get(number) } else { None }
    }

    /// The module and name of a class or function.
    pub(super) fn global(&self, value: Value<'a>) -> Option<(&'a str, &'a str)> {
        if let Kind::Global(module, name) = self.node(value)?.kind {
            Some((module, name))
        } else {
            None
        }
    }

    /// An attribute of an object: of the state that it was given.
    pub(super) fn attribute(&self, object: Value<'a>, name: &str) -> Option<Value<'a>> {
        let given = self.node(object)?.items.iter().take(MAX_ATTRIBUTES);
        let states = given.filter(|(key, _)| *key == Value::Other);
        let mut states = states.filter_map(|(_, state)| self.node(*state));
        states.find_map(|state| {
            let mut attributes = state.items.iter().take(MAX_ATTRIBUTES);
            let found = attributes.find(|(key, _)| *key == Value::Text(name));
            found.map(|(_, value)| *value)
        })
    }

    /// What a class was given to make a value of, if that is one thing.
    pub(super) fn made_of(&self, value: Value<'a>) -> Option<Value<'a>> {
        let Kind::Call { arguments, .. } = self.node(value)?.kind else { return None };
        let mut arguments = self.sequence(arguments)?;
        arguments.next().filter(|_| arguments.len() == 0)
    }

    /// The items of a tuple or list.
    pub(super) fn sequence(
        &self,
        value: Value<'a>,
    ) -> Option<impl ExactSizeIterator<Item = Value<'a>>> {
        let node = self.node(value).filter(|node| node.kind == Kind::Sequence)?;
        Some(node.items.iter().map(|(_, item)| *item))
    }
}

struct Machine<'a> {
    rest: &'a [u8],
    stack: Vec<Value<'a>>,
    /// Where on the stack marks were set.
    marks: Vec<usize>,
    memo: HashMap<u64, Value<'a>>,
    nodes: Vec<Node<'a>>,
    /// Most that was on the stack.
    deepest: usize,
    /// Memory that may still be taken.
    room: usize,
}

impl<'a> Machine<'a> {
    /// Notes that memory is taken; `None` if that would be too much.
    fn take_room(&mut self, bytes: usize) -> Option<()> {
        let left = self.room.checked_sub(bytes);
        self.room = left.unwrap_or(0);
        left.map(drop)
    }

    /// Follows one operation; `None` if it is unknown, or can't be done.
    fn step(&mut self, operation: u8) -> Option<()> {
        match operation {
            0x80 => self.byte().map(drop),  // protocol
            0x95 => self.take(8).map(drop), // frame
            b'(' => {
                self.marks.push(self.stack.len());
                self.take_room(size_of::<usize>())
            }
            b'0' => self.pop().map(drop),
            b'1' => self.pop_mark().map(drop),
            b'2' => self.put(*self.stack.last()?),
            b'N' | 0x88 | 0x89 => self.put(Value::Other),
            b'K' | b'M' | b'J' | 0x8A | 0x8B => self.int(operation),
            b'G' => self.take(8).and_then(|_| self.put(Value::Other)),
            b'X' | 0x8C | 0x8D => self.text(operation),
            b'B' | b'C' | b'T' | b'U' | 0x8E | 0x96 => self.bytes(operation),
            b')' | b']' | 0x8F => self.push(Kind::Sequence, Vec::new()),
            0x85..=0x87 => self.tuple(usize::from(operation - 0x84)),
            b't' | b'l' | 0x91 => {
                let items = self.pop_mark()?;
                self.push(Kind::Sequence, numbered(items))
            }
            b'}' => self.push(Kind::Dict, Vec::new()),
            b'a' => {
                let item = self.pop()?;
                self.append(vec![item])
            }
            b'e' | 0x90 => {
                let items = self.pop_mark()?;
                self.append(items)
            }
            b's' => {
                let (value, key) = (self.pop()?, self.pop()?);
                self.set(vec![key, value])
            }
            b'u' => {
                let items = self.pop_mark()?;
                self.set(items)
            }
            b'q' | b'r' | 0x94 | b'h' | b'j' => self.remember(operation),
            b'c' => {
                let (module, name) = (self.line()?, self.line()?);
                self.push(Kind::Global(module, name), Vec::new())
            }
            0x93 => match (self.pop()?, self.pop()?) {
                (Value::Text(name), Value::Text(module)) => {
                    self.push(Kind::Global(module, name), Vec::new())
                }
                _ => None,
            },
            b'R' | 0x81 | 0x92 => self.call(operation),
            b'b' => {
                let state = self.pop()?;
                self.take_room(ITEM)?;
                self.top()?.items.push((Value::Other, state));
                Some(())
            }
            b'Q' => {
                let id = self.pop()?;
                self.push(Kind::Persistent(id), Vec::new())
            }
            _ => None,
        }
    }

    fn int(&mut self, operation: u8) -> Option<()> {
        let len = match operation {
            b'K' => 1,
            b'M' => 2,
            b'J' => 4,
            _ => self.len(if operation == 0x8A { 1 } else { 4 })?,
        };
        let bytes = self.take(len)?;
        let value = match operation {
            b'K' | b'M' => i64::try_from(number(bytes)?).ok(),
            // Negative numbers are in two's complement, of any length.
            _ => signed(bytes),
        };
        self.put(value.map_or(Value::Other, Value::Int))
    }

    fn text(&mut self, operation: u8) -> Option<()> {
        let len = self.len(match operation {
            b'X' => 4,
            0x8C => 1,
            _ => 8,
        })?;
        // Lone surrogates are no text here: what has one only gets no name.
        let text = std::str::from_utf8(self.take(len)?);
        self.put(text.map_or(Value::Other, Value::Text))
    }

    fn bytes(&mut self, operation: u8) -> Option<()> {
        let len = self.len(match operation {
            b'B' | b'T' => 4,
            b'C' | b'U' => 1,
            _ => 8,
        })?;
        let bytes = self.take(len)?;
        // What Python 2 wrote as bytes may be a name.
        let is_text = matches!(operation, b'T' | b'U');
        let text = std::str::from_utf8(bytes).ok().filter(|_| is_text);
        self.put(text.map_or(Value::Other, Value::Text))
    }

    fn tuple(&mut self, len: usize) -> Option<()> {
        let from = self.stack.len().checked_sub(len).filter(|from| *from >= self.floor())?;
        let items = self.stack.split_off(from);
        self.push(Kind::Sequence, numbered(items))
    }

    fn append(&mut self, items: Vec<Value<'a>>) -> Option<()> {
        self.take_room(items.len() * ITEM)?;
        let node = self.top()?;
        let from = node.items.len();
        node.items.extend(numbered(items).into_iter().map(|(key, item)| match key {
            Value::Int(index) => (Value::Int(index.saturating_add_unsigned(from as u64)), item),
            _ => (key, item),
        }));
        Some(())
    }

    fn set(&mut self, items: Vec<Value<'a>>) -> Option<()> {
        let (pairs, []) = items.as_chunks() else { return None };
        self.take_room(pairs.len() * ITEM)?;
        self.top()?.items.extend(pairs.iter().map(|[key, value]| (*key, *value)));
        Some(())
    }

    fn remember(&mut self, operation: u8) -> Option<()> {
        let index = match operation {
            b'q' | b'h' => number(self.take(1)?)?,
            b'r' | b'j' => number(self.take(4)?)?,
            _ => self.memo.len() as u64,
        };
        if matches!(operation, b'h' | b'j') {
            return self.put(*self.memo.get(&index)?);
        }
        self.take_room(MEMO)?;
        self.memo.insert(index, *self.stack.last()?);
        Some(())
    }

    /// A function with its arguments; of a class, those by keyword come as a dict behind the others.
    fn call(&mut self, operation: u8) -> Option<()> {
        let keywords = if operation == 0x92 { Some(self.pop()?) } else { None };
        let (arguments, function) = (self.pop()?, self.pop()?);
        let state = keywords.map(|keywords| (Value::Other, keywords));
        self.push(Kind::Call { function, arguments }, state.into_iter().collect())
    }

    fn push(&mut self, kind: Kind<'a>, items: Vec<(Value<'a>, Value<'a>)>) -> Option<()> {
        self.take_room(2 * size_of::<Node<'_>>() + items.len() * ITEM)?;
        self.nodes.push(Node { kind, items });
        self.put(Value::Node(self.nodes.len() - 1))
    }

    fn put(&mut self, value: Value<'a>) -> Option<()> {
        if self.stack.len() == self.deepest {
            self.take_room(PLACE)?;
            self.deepest += 1;
        }
        self.stack.push(value);
        Some(())
    }

    /// The node on top of the stack.
    fn top(&mut self) -> Option<&mut Node<'a>> {
        if let Value::Node(number) = *self.stack.last()? {
            self.nodes.get_mut(number)
        } else {
            None
        }
    }

    /// The stack's length at the last mark, below which nothing is popped.
    fn floor(&self) -> usize {
        self.marks.last().copied().unwrap_or(0)
    }

    fn pop(&mut self) -> Option<Value<'a>> {
        if self.stack.len() > self.floor() { self.stack.pop() } else { None }
    }

    fn pop_mark(&mut self) -> Option<Vec<Value<'a>>> {
        let mark = self.marks.pop()?;
        Some(self.stack.split_off(mark))
    }

    fn take(&mut self, len: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.rest.split_at_checked(len)?;
        self.rest = rest;
        Some(taken)
    }

    fn byte(&mut self) -> Option<u8> {
        self.take(1).and_then(|bytes| bytes.first().copied())
    }

    /// A length of so many bytes; what is taken of it is bounded by what is there.
    fn len(&mut self, bytes: usize) -> Option<usize> {
        usize::try_from(number(self.take(bytes)?)?).ok()
    }

    fn line(&mut self) -> Option<&'a str> {
        let end = self.rest.iter().position(|byte| *byte == b'\n')?;
        let line = self.take(end)?;
        self.byte()?;
        std::str::from_utf8(line).ok()
    }
}

/// Items with their indexes.
fn numbered(items: Vec<Value<'_>>) -> Vec<(Value<'_>, Value<'_>)> {
    (0..).map(Value::Int).zip(items).collect()
}

/// A little-endian number of at most eight bytes.
fn number(bytes: &[u8]) -> Option<u64> {
    let mut padded = [0; 8];
    padded.get_mut(..bytes.len())?.copy_from_slice(bytes);
    Some(u64::from_le_bytes(padded))
}

/// The same in two's complement.
fn signed(bytes: &[u8]) -> Option<i64> {
    let negative = bytes.last().is_some_and(|byte| byte & 0x80 != 0);
    let mut padded = [if negative { 0xFF } else { 0 }; 8];
    padded.get_mut(..bytes.len())?.copy_from_slice(bytes);
    Some(i64::from_le_bytes(padded))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_would_be_called_is_only_named() {
        // What `pickle.dumps` makes of an object whose __reduce__ is (os.system, ("id",)).
        let code = b"\x80\x02cposix\nsystem\nq\x00X\x02\x00\x00\x00idq\x01\x85q\x02Rq\x03.";
        let pickle = Pickle::read(code, 0).unwrap();
        let Kind::Call { function, arguments } = pickle.node(pickle.root).unwrap().kind else {
            panic!("{pickle:?}")
        };
        assert_eq!(pickle.global(function), Some(("posix", "system")));
        assert_eq!(pickle.sequence(arguments).unwrap().collect::<Vec<_>>(), [Value::Text("id")]);
    }

    #[test]
    fn containers_have_what_was_put_in() {
        // {"a": [1, -2], 3: (4.5,)}, as protocols 2 and 4 have it.
        let two = b"\x80\x02}q\x00(X\x01\x00\x00\x00aq\x01]q\x02(K\x01J\xfe\xff\xff\xffeK\x03G@\x12\x00\x00\x00\x00\x00\x00\x85q\x03u.";
        let four = b"\x80\x04\x95\x20\x00\x00\x00\x00\x00\x00\x00}\x94(\x8c\x01a\x94]\x94(K\x01J\xfe\xff\xff\xffeK\x03G@\x12\x00\x00\x00\x00\x00\x00\x85\x94u.";
        for bytes in [&two[..], four] {
            let pickle = Pickle::read(bytes, 0).unwrap();
            let node = pickle.node(pickle.root).unwrap();
            let keys: Vec<_> = node.items.iter().map(|(key, _)| *key).collect();
            assert_eq!(
                (&node.kind, &keys[..]),
                (&Kind::Dict, &[Value::Text("a"), Value::Int(3)][..])
            );
            let list: Vec<_> = pickle.sequence(node.items[0].1).unwrap().collect();
            assert_eq!(list, [Value::Int(1), Value::Int(-2)]);
            let tuple: Vec<_> = pickle.sequence(node.items[1].1).unwrap().collect();
            assert_eq!(tuple, [Value::Other]);
        }
    }

    #[test]
    fn a_list_may_be_in_itself() {
        let pickle = Pickle::read(b"\x80\x02]q\x00h\x00a.", 0).unwrap();
        assert_eq!(pickle.node(pickle.root).unwrap().items, [(Value::Int(0), pickle.root)]);
    }

    #[test]
    fn what_is_not_a_pickle_is_refused() {
        let why = |bytes: &[u8]| Pickle::read(bytes, 0).unwrap_err();
        assert!(why(b"").contains("cut short"));
        assert!(why(b"\x80\x02.").contains("without a result"));
        assert!(why(b"\x80\x02I1\n.").contains("0x49 at byte 2"));
        // Less on the stack, or in the file, than is asked for; a mark between.
        for bytes in
            [&b"R."[..], b"N\x85\x86.", b"N(a.", b"N(\x85.", b"h\x00.", b"t.", b"Nb.", b"}(Nu."]
        {
            assert!(why(bytes).contains("not followed"), "{bytes:?}");
        }
        for bytes in [
            &b"X\xff\xff\xff\xffa"[..],
            b"\x8d\xff\xff\xff\xff\xff\xff\xff\xff",
            b"cos\nsys",
            b"\x8b\0\0",
        ] {
            assert!(why(bytes).contains("not followed"), "{bytes:?}");
        }
        for operation in [b"N", b"]", b"("] {
            let many = operation.repeat(16 << 20);
            assert!(why(&many).contains("builds too much"), "{operation:?}");
        }
    }
}
