package artifact

import (
	"archive/tar"
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path"
	"slices"
	"strings"

	"github.com/klauspost/compress/gzip" // takes two thirds of the standard library's time
	"github.com/klauspost/compress/zstd"
	"github.com/ulikunitz/xz"

	"github.com/anywhere-ecs/anywhere/internal/failure"
	"github.com/anywhere-ecs/anywhere/internal/host"
)

// Bounds of what is unpacked. AWS's packages hold some tens of files and 100 to 200 MB.
const (
	maxUnpacked = 2 << 30
	maxEntries  = 100_000
	maxControl  = 16 << 20  // the whole control member, unpacked
	maxFields   = 256 << 10 // the control file
	maxWindow   = 64 << 20  // what a compressor may make us remember; xz -9 and zstd -19 need that or less
)

// File is a regular file inside a package.
type File struct {
	Name string // clean and relative, with slashes: usr/bin/ssm-agent-worker
	Mode fs.FileMode
	Size int64
	Body io.Reader // valid until visit returns
}

// Extract streams the regular files of the package at path, a deb or an rpm, in their order, to visit; visit ends it early with
// fs.SkipAll, or with an error that Extract returns. The package must be one that Fetch returned: nothing is verified
// here. A package that cannot be read, or has a name that leads out of its root, is ArtifactCorrupt.
func Extract(ctx context.Context, files host.Files, path string, visit func(File) error) error {
	file, err := files.Open(path)
	if err != nil {
		return failure.Wrap(failure.ArtifactMissing, err, "unpack %s", path)
	}
	defer file.Close()
	var stopped error
	each := func(f File) error {
		if stopped = ctx.Err(); stopped == nil {
			stopped = visit(f)
		}
		return stopped
	}
	buffered := bufio.NewReader(file)
	if start, _ := buffered.Peek(len(rpmMagic)); string(start) == rpmMagic {
		err = walkRPM(buffered, maxUnpacked, each)
	} else {
		err = walk(buffered, "data.tar", maxUnpacked, each)
	}
	switch {
	case stopped == fs.SkipAll:
		return nil
	case stopped != nil:
		return stopped
	case err != nil:
		return failure.Wrap(failure.ArtifactCorrupt, err, "unpack %s", path)
	}
	return nil
}

// Control reads a Debian package's own name, version and architecture from its beginning; the rest is not read. Its
// errors are ArtifactCorrupt.
func Control(r io.Reader) (name, version, arch string, err error) {
	var fields map[string]string
	err = walk(r, "control.tar", maxControl, func(f File) error {
		if f.Name != "control" {
			return nil
		}
		if f.Size > maxFields {
			return fmt.Errorf("its control file has %d bytes", f.Size)
		}
		raw, err := io.ReadAll(f.Body)
		if err != nil {
			return err
		}
		fields = parseControl(raw)
		return fs.SkipAll
	})
	if err != nil && err != fs.SkipAll {
		return "", "", "", failure.Wrap(failure.ArtifactCorrupt, err, "read the package's control file")
	}
	name, version, arch = fields["package"], fields["version"], fields["architecture"]
	if name == "" || version == "" || arch == "" {
		return "", "", "", failure.New(failure.ArtifactCorrupt,
			"the package's control file lacks its name, version or architecture")
	}
	return name, version, arch, nil
}

// parseControl reads the one-line fields of a control file's first paragraph (deb-control(5)), their names in lower
// case.
func parseControl(raw []byte) map[string]string {
	fields := make(map[string]string)
	for line := range strings.Lines(string(raw)) {
		if strings.TrimSpace(line) == "" {
			break
		}
		name, value, ok := strings.Cut(line, ":")
		if ok && line[0] != ' ' && line[0] != '\t' && line[0] != '#' {
			fields[strings.ToLower(name)] = strings.TrimSpace(value)
		}
	}
	return fields
}

// walk visits the regular files of the member of a Debian package whose name is member and a compressor's suffix.
func walk(r io.Reader, member string, limit int64, visit func(File) error) error {
	deb, err := openArchive(r)
	if err != nil {
		return err
	}
	for first := true; ; first = false {
		name, body, err := deb.next()
		if err == io.EOF {
			return fmt.Errorf("it has no %s", member)
		}
		if err != nil {
			return err
		}
		if first != (name == "debian-binary") {
			return errors.New("not a Debian package: its first member must be debian-binary")
		}
		if suffix, ok := strings.CutPrefix(name, member); ok {
			return walkTar(body, suffix, limit, visit)
		}
	}
}

func walkTar(packed io.Reader, suffix string, limit int64, visit func(File) error) error {
	plain, done, err := unpack(packed, suffix)
	if err != nil {
		return err
	}
	defer done()
	bounded := &bound{in: plain, left: limit}
	entries := tar.NewReader(bounded)
	for range maxEntries {
		header, err := entries.Next()
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return cut(err)
		}
		name, err := relative(header.Name)
		if err != nil {
			return err
		}
		if header.Typeflag != tar.TypeReg {
			continue
		}
		if err := visit(File{name, header.FileInfo().Mode().Perm(), header.Size, entries}); err != nil {
			return err
		}
	}
	return fmt.Errorf("it has more than %d entries", maxEntries)
}

// relative cleans an entry's name and refuses one that would lead out of the folder it is unpacked in.
func relative(name string) (string, error) {
	if strings.HasPrefix(name, "/") || strings.ContainsAny(name, "\\\x00") {
		return "", fmt.Errorf("it has an entry with the name %q", name)
	}
	for part := range strings.SplitSeq(name, "/") {
		if part == ".." {
			return "", fmt.Errorf("it has an entry with the name %q", name)
		}
	}
	return path.Clean(name), nil
}

// unpack undoes the compression that a member's suffix names.
func unpack(packed io.Reader, suffix string) (plain io.Reader, done func(), err error) {
	none := func() {}
	switch suffix {
	case "":
		return packed, none, nil
	case ".gz":
		plain, err = gzip.NewReader(packed)
		return plain, none, err
	case ".xz":
		buffered := bufio.NewReader(packed)
		if err := checkWindow(buffered); err != nil {
			return nil, nil, err
		}
		plain, err = xz.ReaderConfig{SingleStream: true}.NewReader(buffered)
		return plain, none, err
	case ".zst":
		decoder, err := zstd.NewReader(packed, zstd.WithDecoderConcurrency(1), zstd.WithDecoderLowmem(true),
			zstd.WithDecoderMaxWindow(maxWindow))
		if err != nil {
			return nil, nil, err
		}
		return decoder, decoder.Close, nil
	}
	return nil, nil, fmt.Errorf("it is compressed in a way that is not known (%s)", suffix)
}

// checkWindow refuses an xz stream whose first block asks for more memory than maxWindow, which the xz library would
// allocate at once, up to 4 GiB. The layout is that of the .xz file format 1.2.1, sections 2 and 5.3.1.
func checkWindow(r *bufio.Reader) error {
	const (
		streamHeader = 12
		sizes        = 0xc0 // flags: compressed size, uncompressed size
		lzma2        = 0x21
		bits64MiB    = 28 // the property's value for a window of 64 MiB
	)
	start, err := r.Peek(streamHeader + 2)
	if err != nil || start[streamHeader] == 0 { // an empty stream; what is wrong the library will say
		return nil
	}
	length := (int(start[streamHeader]) + 1) * 4
	header, err := r.Peek(streamHeader + length)
	if err != nil {
		return nil
	}
	flags, filters := header[streamHeader+1], header[streamHeader+2:]
	for size := flags & sizes; size != 0; size <<= 1 {
		if size&0x80 == 0 {
			continue
		}
		end := slices.IndexFunc(filters, func(b byte) bool { return b < 0x80 })
		if end < 0 {
			return nil
		}
		filters = filters[end+1:]
	}
	if len(filters) < 3 || filters[0] != lzma2 || filters[1] != 1 {
		return errors.New("it is compressed with an xz filter that packages do not have")
	}
	if filters[2] > bits64MiB {
		return fmt.Errorf("unpacking it would need more than %d MB of memory", maxWindow>>20)
	}
	return nil
}

// bound fails when more than left bytes come: a small file can unpack to a huge one.
type bound struct {
	in   io.Reader
	left int64
}

func (b *bound) Read(p []byte) (int, error) {
	n, err := b.in.Read(p)
	if b.left -= int64(n); b.left < 0 {
		return 0, errors.New("it unpacks to more than a package of AWS can hold")
	}
	return n, err
}
