package partition

import (
	"fmt"
	"regexp"
	"slices"
	"strings"
	"unicode"

	"github.com/anywhere-ecs/anywhere/internal/failure"
)

// regionForm is the form of all Regions of all partitions as of 2026-11-22: us-east-1, ap-southeast-7, us-gov-west-1,
// eusc-de-east-1, us-isob-east-1, mx-central-1.
var regionForm = regexp.MustCompile(`^[a-z]{2,4}(-[a-z]+){1,3}-[0-9]{1,2}$`)

var zoneForm = regexp.MustCompile(`^([a-z]{2,4}(?:-[a-z]+){1,3}-[0-9]{1,2})[a-z]$`)

// known are the Regions of all partitions as of 2026-11-05: aws-sdk-go-v2 v1.47.7, internal/endpoints/awsrulesfn. It is
// never a reason to refuse a name that could be a new Region's; it tells what a name was meant to be.
var known = []string{
	"af-south-1", "ap-east-1", "ap-east-2", "ap-northeast-1", "ap-northeast-2", "ap-northeast-3", "ap-south-1", "ap-south-2",
	"ap-southeast-1", "ap-southeast-2", "ap-southeast-3", "ap-southeast-4", "ap-southeast-5", "ap-southeast-6",
	"ap-southeast-7", "ca-central-1", "ca-west-1", "eu-central-1", "eu-central-2", "eu-north-1", "eu-south-1", "eu-south-2",
	"eu-west-1", "eu-west-2", "eu-west-3", "il-central-1", "me-central-1", "me-south-1", "mx-central-1", "sa-east-1",
	"us-east-1", "us-east-2", "us-west-1", "us-west-2",
	"cn-north-1", "cn-northwest-1", "us-gov-east-1", "us-gov-west-1", "eusc-de-east-1",
	"us-iso-east-1", "us-iso-west-1", "us-isob-east-1", "us-isob-west-1", "eu-isoe-west-1", "us-isof-east-1", "us-isof-south-1",
}

// could reports whether an unknown name is made as those of Regions are: a known direction, a number of one digit, and
// before them a known part of the world, or two letters that are no known one's with its letters exchanged: AWS has come to
// further countries in most years.
func could(s string) bool {
	world, direction, number := parts(s)
	if len(number) != 1 {
		return false
	}
	worlds, directions := map[string]bool{}, map[string]bool{}
	for _, region := range known {
		w, d, _ := parts(region)
		worlds[w], directions[d] = true, true
	}
	country := len(world) == 2 && !worlds[world[1:]+world[:1]]
	return directions[direction] && (worlds[world] || country)
}

// parts takes a name of the form of Regions apart: eusc-de-east-1 is eusc-de, east and 1.
func parts(region string) (world, direction, number string) {
	name := strings.Split(region, "-")
	n := len(name)
	return strings.Join(name[:n-2], "-"), name[n-2], name[n-1]
}

// near are the known Regions that a name is nearest to; none when it is far from all.
func near(s string) (names []string) {
	const most = 2 // mistakes
	best := most
	for _, region := range known {
		d := mistakes(s, region)
		if d < best {
			best, names = d, nil
		}
		if d == best {
			names = append(names, region)
		}
	}
	return names
}

// mistakes counts the letters to type anew, leave out, add, or exchange with their neighbour, to make a of b.
func mistakes(a, b string) int {
	rows := make([][]int, len(a)+1)
	for i := range rows {
		rows[i] = make([]int, len(b)+1)
		rows[i][0] = i
	}
	for j := range rows[0] {
		rows[0][j] = j
	}
	for i := 1; i <= len(a); i++ {
		for j := 1; j <= len(b); j++ {
			other := 1
			if a[i-1] == b[j-1] {
				other = 0
			}
			rows[i][j] = min(rows[i-1][j]+1, rows[i][j-1]+1, rows[i-1][j-1]+other)
			if i > 1 && j > 1 && a[i-1] == b[j-2] && a[i-2] == b[j-1] {
				rows[i][j] = min(rows[i][j], rows[i-2][j-2]+1)
			}
		}
	}
	return rows[len(a)][len(b)]
}

// CheckRegion returns a usage error when s cannot be a Region's name, or is a known one's with a slip of the finger. It
// lets through what could be a new Region: they come every year. Each character that does not belong is named, for what a word processor or a chat makes of a
// pasted command (typographic quotes, long dashes, look-alike letters) cannot be seen.
func CheckRegion(s string) error {
	if s == "" {
		return failure.New(failure.Usage, "--region is empty").WithRemedy("name the AWS Region, like --region us-east-1")
	}
	if slices.Contains(known, s) {
		return nil
	}
	if regionForm.MatchString(s) {
		meant := near(s)
		if len(meant) == 0 || could(s) {
			return nil
		}
		return failure.New(failure.Usage, "--region %q is not the name of an AWS Region; near it are: %s", s, strings.Join(meant, ", ")).
			WithRemedy("use --region %s", meant[0])
	}
	message := fmt.Sprintf("--region %q is not the name of an AWS Region", s)
	if strange := strangers(s); len(strange) > 0 {
		message += ": " + strings.Join(strange, ", ")
	}
	err := failure.New(failure.Usage, "%s", message).WithRemedy("type it anew, like --region us-east-1")
	if meant := plain(s); regionForm.MatchString(meant) {
		err = err.WithRemedy("use --region %s", meant)
	} else if close := near(meant); len(close) > 0 && len(strangers(s)) == 0 && zoneForm.FindStringSubmatch(meant) == nil {
		err.Message += "; near it are: " + strings.Join(close, ", ")
		err = err.WithRemedy("use --region %s", close[0])
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
