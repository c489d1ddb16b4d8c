package partition

import (
	"fmt"
	"regexp"
	"strings"
	"unicode"

	"github.com/anywhere-ecs/anywhere/internal/failure"
)

// regionForm is the form of all Regions of all partitions as of 2026-11-22: us-east-1, ap-southeast-7, us-gov-west-1,
// eusc-de-east-1, us-isob-east-1, mx-central-1.
var regionForm = regexp.MustCompile(`^[a-z]{2,4}(-[a-z]+){1,3}-[0-9]{1,2}$`)

var zoneForm = regexp.MustCompile(`^([a-z]{2,4}(?:-[a-z]+){1,3}-[0-9]{1,2})[a-z]$`)

// CheckRegion returns a usage error when s cannot be a Region's name. It does not know which Regions there are: new
// ones come every year. Each character that does not belong is named, for what a word processor or a chat makes of a
// pasted command (typographic quotes, long dashes, look-alike letters) cannot be seen.
func CheckRegion(s string) error {
	if s == "" {
		return failure.New(failure.Usage, "--region is empty").WithRemedy("name the AWS Region, like --region us-east-1")
	}
	if regionForm.MatchString(s) {
		return nil
	}
	message := fmt.Sprintf("--region %q is not the name of an AWS Region", s)
	if strange := strangers(s); len(strange) > 0 {
		message += ": " + strings.Join(strange, ", ")
	}
	err := failure.New(failure.Usage, "%s", message).WithRemedy("type it anew, like --region us-east-1")
	if meant := plain(s); regionForm.MatchString(meant) {
		err = err.WithRemedy("use --region %s", meant)
	} else if zone := zoneForm.FindStringSubmatch(meant); zone != nil {
		err.Message += "; it looks like an Availability Zone"
		err = err.WithRemedy("use --region %s", zone[1])
	}
	return err
}

// strangers names each character of s that no Region has, with its place.
func strangers(s string) []string {
	var named []string
	for i, r := range []rune(s) {
		if r == '-' || r >= 'a' && r <= 'z' || r >= '0' && r <= '9' {
			continue
		}
		named = append(named, fmt.Sprintf("character %d is %s", i+1, describe(r)))
	}
	return named
}

// names of characters that get into pasted commands, by the Unicode standard (lower-cased).
var names = map[rune]string{
	' ': "a blank", '\t': "a tab", '\n': "a newline", '\r': "a carriage return",
	'"': "a quotation mark", '\'': "an apostrophe", '_': "a low line", '.': "a full stop", '/': "a slash",
	0x00A0: "a no-break space", 0x00AD: "a soft hyphen", 0x00AB: "a left-pointing double angle quotation mark",
	0x00BB: "a right-pointing double angle quotation mark", 0x200B: "a zero width space",
	0x200C: "a zero width non-joiner", 0x200D: "a zero width joiner", 0x200E: "a left-to-right mark",
	0x200F: "a right-to-left mark", 0x2010: "a hyphen that is not the keyboard's", 0x2011: "a non-breaking hyphen",
	0x2012: "a figure dash", 0x2013: "an en dash", 0x2014: "an em dash", 0x2015: "a horizontal bar",
	0x2018: "a left single quotation mark", 0x2019: "a right single quotation mark",
	0x201A: "a single low-9 quotation mark", 0x201C: "a left double quotation mark",
	0x201D: "a right double quotation mark", 0x201E: "a double low-9 quotation mark",
	0x202F: "a narrow no-break space", 0x2060: "a word joiner", 0x2212: "a minus sign", 0xFE63: "a small hyphen-minus",
	0xFEFF: "a byte order mark", 0xFF0D: "a fullwidth hyphen-minus", unicode.ReplacementChar: "not valid UTF-8",
}

// describe names a character: by its name, else by its alphabet, and by its code point where it is not ASCII.
func describe(r rune) string {
	name, ok := names[r]
	switch {
	case ok && r < unicode.MaxASCII:
		return name
	case ok:
		return fmt.Sprintf("%s (U+%04X)", name, r)
	case r >= 'A' && r <= 'Z':
		return fmt.Sprintf("the capital %c", r)
	case r < unicode.MaxASCII && unicode.IsPrint(r):
		return fmt.Sprintf("%c", r)
	case unicode.Is(unicode.Cyrillic, r):
		name = "a Cyrillic letter"
	case unicode.Is(unicode.Greek, r):
		name = "a Greek letter"
	case unicode.Is(unicode.Latin, r):
		name = "a Latin letter that is not ASCII"
	case unicode.IsControl(r):
		name = "a control character"
	default:
		name = "a character that is not ASCII"
	}
	if unicode.IsPrint(r) {
		name += fmt.Sprintf(" “%c”", r)
	}
	return fmt.Sprintf("%s (U+%04X)", name, r)
}

// lookAlikes are the Cyrillic and Greek letters that are printed like a small Latin one.
var lookAlikes = map[rune]rune{
	'а': 'a', 'с': 'c', 'е': 'e', 'һ': 'h', 'і': 'i', 'ј': 'j', 'о': 'o', 'р': 'p', 'ѕ': 's', 'ѵ': 'v', 'х': 'x',
	'у': 'y', 'ԁ': 'd', 'ԛ': 'q', 'ԝ': 'w', 'ο': 'o', 'ν': 'v', 'ι': 'i', 'α': 'a', 'ρ': 'p',
}

// plain is what was probably meant: small letters, keyboard hyphens, nothing round it.
func plain(s string) string {
	var out strings.Builder
	for _, r := range strings.ToLower(s) {
		switch {
		case lookAlikes[r] != 0:
			out.WriteRune(lookAlikes[r])
		case unicode.Is(unicode.Dash, r) || r == '_':
			out.WriteByte('-')
		case r < unicode.MaxASCII && (unicode.IsLetter(r) || unicode.IsDigit(r)):
			out.WriteRune(r)
		}
	}
	return out.String()
}
