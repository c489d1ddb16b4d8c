package artifact

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"strconv"
	"strings"

	"github.com/anywhere-ecs/anywhere/internal/failure"
)

// rpmMagic begins every rpm. The layout is that of the rpm file format, version 4, of rpm 4.0 and later:
// https://rpm-software-management.github.io/rpm/manual/format_v4.html and format_header.html, read 2026-11-25.
const rpmMagic = "\xed\xab\xee\xdb"

const (
	rpmLead       = 96
	rpmHeader     = "\x8e\xad\xe8\x01"
	maxRPMEntries = 4096     // a header of AWS's has about a hundred
	maxRPMStore   = 16 << 20 // as much as a whole control member of a deb
)

// Tags of a header, and the type that all of these have.
const (
	tagName       = 1000
	tagVersion    = 1001
	tagRelease    = 1002
	tagArch       = 1022
	tagFormat     = 1124
	tagCompressor = 1125
	typeString    = 6
)

// rpmArch are Go's names of what rpm calls an architecture.
var rpmArch = map[string]string{"x86_64": "amd64", "aarch64": "arm64"}

// rpmSuffix are the names, as unpack knows them, of what an rpm's header calls its compressor. A header without one means
// gzip.
var rpmSuffix = map[string]string{"": ".gz", "gzip": ".gz", "xz": ".xz", "zstd": ".zst"}

// Identify reads the name, version and architecture (Go's name) of a package of the family from its own header.
func Identify(family string, r io.Reader) (name, version, arch string, err error) {
	if family == RPM {
		return rpmControl(r)
	}
	return Control(r)
}

// rpmControl reads an rpm's own name, version with its release, and architecture. Its errors are ArtifactCorrupt.
func rpmControl(r io.Reader) (name, version, arch string, err error) {
	fields, err := readRPM(r)
	if err != nil {
		return "", "", "", failure.Wrap(failure.ArtifactCorrupt, err, "read the package's header")
	}
	name, version, arch = fields[tagName], fields[tagVersion], fields[tagArch]
	if name == "" || version == "" || fields[tagRelease] == "" || arch == "" {
		return "", "", "", failure.New(failure.ArtifactCorrupt,
			"the package's header lacks its name, version, release or architecture")
	}
	if known := rpmArch[arch]; known != "" {
		arch = known
	}
	return name, version + "-" + fields[tagRelease], arch, nil
}

// readRPM reads up to the payload, and returns the header's strings.
func readRPM(r io.Reader) (map[uint32]string, error) {
	lead := make([]byte, rpmLead)
	if _, err := io.ReadFull(r, lead); err != nil {
		return nil, cut(err)
	}
	if !bytes.HasPrefix(lead, []byte(rpmMagic)) {
		return nil, errors.New("it is not an rpm: it does not begin with an rpm's lead")
	}
	if _, err := readHeader(r, 8); err != nil { // of signatures; AWS's are beside the file
		return nil, err
	}
	return readHeader(r, 1)
}

// readHeader reads one header structure, and what pads it to a multiple of align.
func readHeader(r io.Reader, align int) (map[uint32]string, error) {
	intro := make([]byte, 16)
	if _, err := io.ReadFull(r, intro); err != nil {
		return nil, cut(err)
	}
	if !bytes.HasPrefix(intro, []byte(rpmHeader)) {
		return nil, errors.New("it has no header where an rpm has one")
	}
	entries, size := binary.BigEndian.Uint32(intro[8:]), binary.BigEndian.Uint32(intro[12:])
	if entries > maxRPMEntries || size > maxRPMStore {
		return nil, fmt.Errorf("its header has %d entries and %d bytes, more than a package of AWS can have", entries, size)
	}
	padded := (int(size) + align - 1) / align * align
	var text bytes.Buffer // grows with what comes, not with what a header promises
	whole := int64(entries)*16 + int64(padded)
	if n, err := io.CopyN(&text, r, whole); n < whole {
		return nil, cut(err)
	}
	index, store := text.Bytes()[:entries*16], text.Bytes()[entries*16:][:size]
	fields := map[uint32]string{}
	for ; len(index) > 0; index = index[16:] {
		tag, kind, at := binary.BigEndian.Uint32(index), binary.BigEndian.Uint32(index[4:]), binary.BigEndian.Uint32(index[8:])
		if kind != typeString {
			continue
		}
		if at >= size {
			return nil, errors.New("its header points behind its own end")
		}
		value, _, ended := bytes.Cut(store[at:], []byte{0})
		if !ended {
			return nil, errors.New("its header has a string without an end")
		}
		fields[tag] = string(value)
	}
	return fields, nil
}

// walkRPM visits the regular files of an rpm.
func walkRPM(r io.Reader, limit int64, visit func(File) error) error {
	buffered := bufio.NewReader(r)
	fields, err := readRPM(buffered)
	if err != nil {
		return err
	}
	if format := fields[tagFormat]; format != "" && format != "cpio" {
		return fmt.Errorf("its payload is of a kind that is not known (%s)", format)
	}
	suffix, known := rpmSuffix[fields[tagCompressor]]
	if !known {
		return fmt.Errorf("it is compressed in a way that is not known (%s)", fields[tagCompressor])
	}
	plain, done, err := unpack(buffered, suffix)
	if err != nil {
		return cut(err)
	}
	defer done()
	return walkCPIO(bufio.NewReader(&bound{in: plain, left: limit}), visit)
}

// Layout of a cpio archive of the form newc: the magic and thirteen numbers of eight hexadecimal digits. Source: cpio(5)
// of libarchive.
const (
	cpioMagic  = "070701"
	cpioSummed = "070702"
	cpioEnd    = "TRAILER!!!"
	cpioHead   = 6 + 13*8
	cpioMode   = 1 // which of the numbers
	cpioSize   = 6
	cpioName   = 11
	maxName    = 4096
)

func walkCPIO(in *bufio.Reader, visit func(File) error) error {
	head := make([]byte, cpioHead)
	for range maxEntries {
		if _, err := io.ReadFull(in, head); err != nil {
			return cut(err)
		}
		if magic := string(head[:6]); magic != cpioMagic && magic != cpioSummed {
			return fmt.Errorf("its payload has an entry that begins with %q", magic)
		}
		var numbers [13]int64
		for i := range numbers {
			n, err := strconv.ParseUint(string(head[6+8*i:][:8]), 16, 32)
			if err != nil {
				return fmt.Errorf("its payload has an entry with a number %q", head[6+8*i:][:8])
			}
			numbers[i] = int64(n)
		}
		mode, size, length := numbers[cpioMode], numbers[cpioSize], numbers[cpioName]
		if length < 1 || length > maxName {
			return fmt.Errorf("its payload has an entry with a name of %d bytes", length)
		}
		raw := make([]byte, length+padding(cpioHead+length))
		if _, err := io.ReadFull(in, raw); err != nil {
			return cut(err)
		}
		text := strings.TrimRight(string(raw[:length]), "\x00")
		if text == cpioEnd {
			return nil
		}
		name, err := relative(strings.TrimPrefix(text, "/")) // old packages name files from the root
		if err != nil {
			return err
		}
		body := io.LimitReader(in, size)
		const kind, regular = 0o170000, 0o100000
		if mode&kind == regular {
			if err := visit(File{name, fs.FileMode(mode).Perm(), size, &exact{in: body, left: size}}); err != nil {
				return err
			}
		}
		if _, err := io.Copy(io.Discard, body); err != nil {
			return cut(err)
		}
		if _, err := in.Discard(int(padding(size))); err != nil {
			return cut(err)
		}
	}
	return fmt.Errorf("it has more than %d entries", maxEntries)
}

// padding is what fills n bytes up to a multiple of four.
func padding(n int64) int64 { return -n & 3 }

// exact fails where fewer than left bytes come.
type exact struct {
	in   io.Reader
	left int64
}

func (e *exact) Read(p []byte) (int, error) {
	n, err := e.in.Read(p)
	e.left -= int64(n)
	if err == io.EOF && e.left > 0 {
		err = io.ErrUnexpectedEOF
	}
	return n, err
}
