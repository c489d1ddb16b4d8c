package host

import (
	"bytes"
	"compress/gzip"
	"io"
	"io/fs"
	"path"
	"slices"
	"strings"
)

// unpackMost bounds what is unpacked of a packed log to find its end: a few bytes can unpack to terabytes.
const unpackMost = 64 << 20

// LogFiles are a log and what it was rolled over to (NAME.1, NAME.2026-11-22-09, NAME.3.gz), the newest first. Only
// regular files count. A folder that is missing has none.
func LogFiles(files Files, name string) ([]string, error) {
	list, err := files.ReadDir(path.Dir(name))
	if err != nil {
		return nil, err
	}
	type file struct {
		path string
		info fs.FileInfo
	}
	var found []file
	for _, item := range list {
		if item.Name() != path.Base(name) && !strings.HasPrefix(item.Name(), path.Base(name)+".") {
			continue
		}
		if info, err := item.Info(); err == nil && info.Mode().IsRegular() {
			found = append(found, file{path.Join(path.Dir(name), item.Name()), info})
		}
	}
	slices.SortStableFunc(found, func(a, b file) int {
		switch { // the log itself is the newest, whatever its time
		case a.path == name:
			return -1
		case b.path == name:
			return 1
		}
		return b.info.ModTime().Compare(a.info.ModTime())
	})
	var paths []string
	for _, f := range found {
		paths = append(paths, f.path)
	}
	return paths, nil
}

// ReadEnd reads the last bytes of a log, at most so many, from the beginning of a line; whole reports whether that is all
// of it. A log that was packed with gzip is unpacked.
func ReadEnd(files Files, name string, most int64) (data []byte, whole bool, err error) {
	f, err := files.Open(name)
	if err != nil {
		return nil, false, err
	}
	defer f.Close()
	if strings.HasSuffix(name, ".gz") {
		data, whole, err = unpackedEnd(f, most)
	} else {
		data, whole, err = plainEnd(f, most)
	}
	if err != nil || whole {
		return data, whole, err
	}
	if _, after, found := bytes.Cut(data, []byte{'\n'}); found {
		data = after
	}
	return data, false, nil
}

func plainEnd(f fs.File, most int64) (data []byte, whole bool, err error) {
	info, err := f.Stat()
	if err != nil {
		return nil, false, err
	}
	skip := max(0, info.Size()-most)
	if seeker, ok := f.(io.Seeker); ok {
		_, err = seeker.Seek(skip, io.SeekStart)
	} else {
		_, err = io.CopyN(io.Discard, f, skip)
	}
	if err != nil {
		return nil, false, err
	}
	data, err = io.ReadAll(io.LimitReader(f, most)) // it may grow while it is read
	return data, skip == 0, err
}

func unpackedEnd(f io.Reader, most int64) (data []byte, whole bool, err error) {
	unpacked, err := gzip.NewReader(f)
	if err != nil {
		return nil, false, err
	}
	defer unpacked.Close()
	whole = true
	for read, chunk := int64(0), make([]byte, 64<<10); ; {
		n, err := unpacked.Read(chunk)
		read += int64(n)
		data = append(data, chunk[:n]...)
		if over := int64(len(data)) - most; over > most { // not for each chunk
			data, whole = append([]byte(nil), data[over:]...), false
		}
		if err == io.EOF || err == nil && read >= unpackMost {
			break
		}
		if err != nil {
			return nil, false, err
		}
	}
	if over := int64(len(data)) - most; over > 0 {
		data, whole = data[over:], false
	}
	return data, whole, nil
}
