//! An assembler for the classic BPF that seccomp filters are written in (seccomp(2), bpf(4)).
//!
//! Owns labels and jumps. Forward jumps only, as the kernel demands, of at most 255 instructions.

/// What a filter answers, in the kernel's encoding.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Answer {
    /// The call goes on.
    Allow,
    /// The listener is asked.
    Notify,
    /// The call fails with this errno; 0: it succeeds without being made.
    Errno(u16),
}

impl Answer {
    /// `SECCOMP_RET_*`.
    pub(crate) fn encode(self) -> u32 {
        match self {
            Self::Allow => libc::SECCOMP_RET_ALLOW,
            Self::Notify => libc::SECCOMP_RET_USER_NOTIF,
            Self::Errno(number) => libc::SECCOMP_RET_ERRNO | u32::from(number),
        }
    }
}

/// A place in the program, to be jumped to from before it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Label(usize);

#[derive(Debug, Clone, Copy)]
enum Line {
    Load(u32),
    Jump { code: u32, value: u32, to: Label },
    Return(Answer),
}

/// A program under construction.
#[derive(Debug, Default)]
pub(crate) struct Program {
    lines: Vec<Line>,
    /// Where each label stands, as the number of the line that follows it.
    places: Vec<Option<usize>>,
}

impl Program {
    /// A label that stands nowhere yet.
    pub(crate) fn label(&mut self) -> Label {
        self.places.push(None);
        Label(self.places.len() - 1)
    }

    /// Puts `label` here.
    pub(crate) fn place(&mut self, label: Label) {
        self.places[label.0] = Some(self.lines.len());
    }

    /// Loads the 32 bits at `offset` of `struct seccomp_data`.
    pub(crate) fn load(&mut self, offset: usize) {
        let offset = u32::try_from(offset).expect("seccomp_data has 64 bytes");
        self.lines.push(Line::Load(offset));
    }

    /// Goes on at `to` if what was loaded equals `value`.
    pub(crate) fn jump_if_equal(&mut self, value: u32, to: Label) {
        self.jump(libc::BPF_JEQ, value, to);
    }

    /// Goes on at `to` if what was loaded is at least `value`.
    pub(crate) fn jump_if_at_least(&mut self, value: u32, to: Label) {
        self.jump(libc::BPF_JGE, value, to);
    }

    /// Goes on at `to` if what was loaded has a bit of `mask`.
    pub(crate) fn jump_if_any(&mut self, mask: u32, to: Label) {
        self.jump(libc::BPF_JSET, mask, to);
    }

    /// Ends with `answer`.
    pub(crate) fn answer(&mut self, answer: Answer) {
        self.lines.push(Line::Return(answer));
    }

    fn jump(&mut self, code: u32, value: u32, to: Label) {
        self.lines.push(Line::Jump { code, value, to });
    }

    /// The kernel's instructions.
    pub(crate) fn assemble(&self) -> Vec<libc::sock_filter> {
        let assemble = |(number, line): (usize, &Line)| match *line {
            Line::Load(offset) => {
                instruction(libc::BPF_LD | libc::BPF_W | libc::BPF_ABS, offset, 0)
            }
            Line::Jump { code, value, to } => {
                let place = self.places[to.0].expect("every label that is jumped to has its place");
                let distance = u8::try_from(place - number - 1).expect("jumps are short");
                instruction(libc::BPF_JMP | code | libc::BPF_K, value, distance)
            }
            Line::Return(answer) => instruction(libc::BPF_RET | libc::BPF_K, answer.encode(), 0),
        };
        self.lines.iter().enumerate().map(assemble).collect()
    }
}

fn instruction(code: u32, k: u32, jt: u8) -> libc::sock_filter {
    let code = u16::try_from(code).expect("opcodes have 16 bits");
    libc::sock_filter { code, jt, jf: 0, k }
}
