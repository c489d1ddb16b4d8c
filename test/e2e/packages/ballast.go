package packages

import (
	"math/rand/v2"
	"os"
)

// heavy is a program with so many bytes behind its end, where nothing reads them.
func heavy(program string, ballast int64) ([]byte, error) {
	text, err := os.ReadFile(program)
	if err != nil {
		return nil, err
	}
	return appendBallast(text, ballast), nil
}

// appendBallast appends n bytes that gzip makes a sixth of, and unpacks with as much work as a program: short
// pieces that it has met shortly before, and now and then bytes that it has not. They are the same each time.
func appendBallast(text []byte, n int64) []byte {
	const (
		words  = 256
		length = 16 // bytes of a word
		fresh  = 32 // one word of so many is a new one
	)
	random := rand.NewChaCha8([32]byte{})
	dictionary := make([]byte, words*length)
	_, _ = random.Read(dictionary) // it never fails
	for end := int64(len(text)) + n; int64(len(text)) < end; {
		number := random.Uint64()
		at := number >> 8 % words * length
		word := dictionary[at : at+length]
		if number%fresh == 0 {
			_, _ = random.Read(word)
		}
		text = append(text, word[:min(length, end-int64(len(text)))]...)
	}
	return text
}
