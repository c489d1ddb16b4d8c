package emulator

import (
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"strings"
	"time"
)

// agentMessage is what goes over a control channel: a header of fixed fields, big-endian, and a payload of JSON
// (amazon-ssm-agent 3.3, session/contracts/agentmessage.go).
type agentMessage struct {
	kind     string // at most 32 characters
	schema   uint32
	created  time.Time
	sequence int64
	flags    uint64
	id       string // a UUID; its lower half is written first
	digest   [sha256.Size]byte
	payload  []byte
}

// agentHeader is the length of the header without its own last field, the payload's length: what the first field says.
const agentHeader = 4 + 32 + 4 + 8 + 8 + 8 + 16 + sha256.Size + 4

func (m *agentMessage) bytes() []byte {
	b := binary.BigEndian.AppendUint32(nil, agentHeader)
	b = append(b, m.kind+strings.Repeat(" ", 32-len(m.kind))...)
	b = binary.BigEndian.AppendUint32(b, max(m.schema, 1))
	b = binary.BigEndian.AppendUint64(b, uint64(m.created.UnixMilli()))
	b = binary.BigEndian.AppendUint64(b, uint64(m.sequence))
	b = binary.BigEndian.AppendUint64(b, m.flags)
	id, _ := hex.DecodeString(strings.ReplaceAll(m.id, "-", "")) // made by uuid
	b = append(append(b, id[8:]...), id[:8]...)
	digest := sha256.Sum256(m.payload)
	b = append(b, digest[:]...)
	b = binary.BigEndian.AppendUint32(b, 0)
	b = binary.BigEndian.AppendUint32(b, uint32(len(m.payload)))
	return append(b, m.payload...)
}

// parseAgentMessage takes a frame apart and checks its digest.
func parseAgentMessage(b []byte) (*agentMessage, error) {
	if len(b) < agentHeader+4 {
		return nil, errors.New("the message is shorter than its header")
	}
	header := int(binary.BigEndian.Uint32(b))
	if header < agentHeader || header > len(b)-4 {
		return nil, errors.New("the message's header length is wrong")
	}
	m := &agentMessage{
		kind: strings.Trim(string(b[4:36]), " \x00"), schema: binary.BigEndian.Uint32(b[36:]),
		created:  time.UnixMilli(int64(binary.BigEndian.Uint64(b[40:]))),
		sequence: int64(binary.BigEndian.Uint64(b[48:])), flags: binary.BigEndian.Uint64(b[56:]),
		digest: [sha256.Size]byte(b[80:112]), payload: b[header+4:],
	}
	id := hex.EncodeToString(append(append([]byte{}, b[72:80]...), b[64:72]...))
	m.id = strings.Join([]string{id[:8], id[8:12], id[12:16], id[16:20], id[20:]}, "-")
	if sha256.Sum256(m.payload) != m.digest {
		return nil, errors.New("the message's payload does not have its digest")
	}
	return m, nil
}
