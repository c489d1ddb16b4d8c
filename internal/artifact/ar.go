package artifact

import (
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"
)

// archive reads a Unix ar archive, the outer shell of a Debian package (deb(5)), member by member.
type archive struct {
	in   io.Reader
	rest io.LimitedReader // of the present member
	odd  bool             // the present member is followed by a byte of padding
}

const (
	arHeader = 60 // bytes: name 16, time 12, uid 6, gid 6, mode 8, size 10, end 2
	arEnd    = "`\n"
)

func openArchive(in io.Reader) (*archive, error) {
	magic := make([]byte, len(arMagic))
	if _, err := io.ReadFull(in, magic); err != nil {
		return nil, fmt.Errorf("not a Debian package: %w", cut(err))
	}
	if string(magic) != arMagic {
		return nil, fmt.Errorf("not a Debian package: it begins with %q", magic)
	}
	return &archive{in: in}, nil
}

// next goes to the next member; io.EOF says that there is none. The body is valid until next is called again.
func (a *archive) next() (name string, body io.Reader, err error) {
	skip := a.rest.N
	if a.odd {
		skip++
	}
	if _, err := io.CopyN(io.Discard, a.in, skip); err != nil {
		return "", nil, cut(err)
	}
	header := make([]byte, arHeader)
	if n, err := io.ReadFull(a.in, header); err == io.EOF && n == 0 {
		return "", nil, io.EOF
	} else if err != nil {
		return "", nil, cut(err)
	}
	if string(header[58:]) != arEnd {
		return "", nil, errors.New("a member's header has no end")
	}
	size, err := strconv.ParseInt(strings.TrimRight(string(header[48:58]), " "), 10, 64)
	if err != nil || size < 0 {
		return "", nil, fmt.Errorf("a member's size is %q", header[48:58])
	}
	a.rest, a.odd = io.LimitedReader{R: a.in, N: size}, size%2 == 1
	name = strings.TrimSuffix(strings.TrimRight(string(header[:16]), " "), "/")
	return name, &a.rest, nil
}

// cut tells an archive that ends too early from one that ends.
func cut(err error) error {
	if err == io.EOF {
		return io.ErrUnexpectedEOF
	}
	return err
}
