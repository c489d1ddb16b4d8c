package emulator

import (
	"crypto/rsa"
	"crypto/x509"
	"encoding/base64"
	"time"
)

// registerManagedInstance is anonymous: the activation's id and code are all that it asks for.
func (e *Emulator) registerManagedInstance(c *call) (any, *apiError) {
	var in struct{ ActivationCode, ActivationId, Fingerprint, PublicKey, PublicKeyType string }
	if failed := c.decode(&in); failed != nil {
		return nil, failed
	}
	switch {
	case e.faulty(FaultActivationInvalid):
		return nil, errActivation
	case e.faulty(FaultActivationExpired):
		return nil, errActivationExpired
	case e.faulty(FaultActivationUsedUp):
		return nil, errActivationUsedUp
	}
	public, failed := parsePublicKey(in.PublicKey, in.PublicKeyType)
	if failed != nil {
		return nil, failed
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	now := e.opts.Now()
	a := e.activations[in.ActivationId]
	switch {
	case a == nil || a.code != in.ActivationCode:
		return nil, errActivation
	case !now.Before(a.expires):
		return nil, errActivationExpired
	case a.used >= a.limit:
		return nil, errActivationUsedUp
	}
	a.used++
	n := &node{
		Node:        Node{ID: "mi-" + hexID(9)[:17], ActivationID: a.id, Role: a.role, Name: a.name, Registered: now},
		fingerprint: in.Fingerprint, publicKey: public, channels: map[*channel]bool{},
	}
	e.nodes[n.ID] = n
	e.nodeOrder = append(e.nodeOrder, n.ID)
	return map[string]string{"InstanceId": n.ID}, nil
}

// The service sends ActivationExpired without a message (upstream issue 134 of amazon-ssm-agent).
var (
	errActivation        = newError("InvalidActivation", "The activation ID or activation code is not valid.")
	errActivationExpired = newError("ActivationExpired", "")
	errActivationUsedUp  = newError("RegistrationLimitExceeded", "The registration limit of the activation is exceeded.")
)

func parsePublicKey(text, kind string) (*rsa.PublicKey, *apiError) {
	der, err := base64.StdEncoding.DecodeString(text)
	if err != nil || kind != "Rsa" {
		return nil, newError("InvalidPublicKey", "The public key is not valid.")
	}
	parsed, err := x509.ParsePKIXPublicKey(der)
	public, ok := parsed.(*rsa.PublicKey)
	if err != nil || !ok {
		return nil, newError("InvalidPublicKey", "The public key is not valid.")
	}
	return public, nil
}

// nodeCall finds the node that signed a call with its private key, and verifies that.
func (e *Emulator) nodeCall(c *call) (*node, *apiError) {
	if c.sign == nil {
		return nil, errMissingToken
	}
	now := e.opts.Now()
	if e.faulty(FaultClockSkew) {
		now = now.Add(2 * maxSkew)
	}
	if failed := c.sign.checkTime(now); failed != nil {
		return nil, failed
	}
	if failed := c.sign.checkScope(e.opts.Region, "ssm"); failed != nil {
		return nil, failed
	}
	e.mu.Lock()
	n := e.nodes[c.sign.keyID]
	if n == nil || n.gone {
		e.mu.Unlock()
		return nil, unknownNode(c.sign.keyID)
	}
	public := n.publicKey
	e.mu.Unlock()
	return n, c.sign.checkRSA(c.Request, c.body, public)
}

// unknownNode has the service's own words (upstream issue 381 of amazon-ssm-agent).
func unknownNode(id string) *apiError {
	return newError("InvalidInstanceId", "Not existing InstanceId %s", id)
}

func (e *Emulator) requestRoleToken(c *call) (any, *apiError) {
	n, failed := e.nodeCall(c)
	if failed != nil {
		return nil, failed
	}
	var in struct{ Fingerprint string }
	if failed := c.decode(&in); failed != nil {
		return nil, failed
	}
	if e.faulty(FaultRoleTokenDenied) {
		return nil, newError("AccessDeniedException", "Systems Manager's instance management role is not configured for "+
			"account: %s", e.opts.Account)
	}
	another := e.faulty(FaultFingerprint)
	e.mu.Lock()
	defer e.mu.Unlock()
	if another || in.Fingerprint != n.fingerprint {
		return nil, newError("MachineFingerprintDoesNotMatch", "Fingerprint does not match")
	}
	k := e.newSessionKey()
	k.node = n.ID
	e.keys[k.ID] = k
	return map[string]any{
		"AccessKeyId": k.ID, "SecretAccessKey": k.Secret.Reveal(), "SessionToken": k.Token.Reveal(),
		"UpdateKeyPair": false, "TokenExpirationDate": seconds(k.expires),
	}, nil
}

func (e *Emulator) updatePublicKey(c *call) (any, *apiError) {
	n, failed := e.nodeCall(c)
	if failed != nil {
		return nil, failed
	}
	var in struct{ NewPublicKey, NewPublicKeyType string }
	if failed := c.decode(&in); failed != nil {
		return nil, failed
	}
	public, failed := parsePublicKey(in.NewPublicKey, in.NewPublicKeyType)
	if failed != nil {
		return nil, failed
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	n.publicKey = public
	return struct{}{}, nil
}

// updateInstanceInformation is the agent's ping.
func (e *Emulator) updateInstanceInformation(c *call) (any, *apiError) {
	var in struct {
		InstanceId, AgentVersion, ComputerName, IPAddress, PlatformName, PlatformVersion string
	}
	if failed := c.decode(&in); failed != nil {
		return nil, failed
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	n := e.nodes[in.InstanceId]
	if n == nil || n.gone || c.key.node != "" && c.key.node != n.ID {
		return nil, unknownNode(in.InstanceId)
	}
	n.LastPing = e.opts.Now()
	for _, field := range []struct {
		to    *string
		value string
	}{
		{&n.AgentVersion, in.AgentVersion}, {&n.Computer, in.ComputerName}, {&n.IP, in.IPAddress},
		{&n.Platform, in.PlatformName}, {&n.PlatformVer, in.PlatformVersion},
	} {
		if field.value != "" { // the first ping of a start has only the version
			*field.to = field.value
		}
	}
	return struct{}{}, nil
}

func (e *Emulator) deregisterManagedInstance(c *call) (any, *apiError) {
	var in struct{ InstanceId string }
	if failed := c.decode(&in); failed != nil {
		return nil, failed
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	n := e.nodes[in.InstanceId]
	if n == nil || n.gone {
		return nil, unknownNode(in.InstanceId)
	}
	n.goneAt = e.opts.Now()
	n.forget() // its credentials live on until they expire: STS does not know of nodes
	return struct{}{}, nil
}

// filter is a filter of DescribeInstanceInformation; that API has two generations of names for it.
type filter struct {
	Key, FilterKey       string // encoding/json matches names without case, so the older "key" and "valueSet" fit too
	Values, FilterValues []string
	ValueSet             []string
}

func (f filter) key() string { return f.Key + f.FilterKey }

func (f filter) values() []string {
	return append(append(append([]string(nil), f.Values...), f.FilterValues...), f.ValueSet...)
}

func has(values []string, v string) bool {
	for _, x := range values {
		if x == v {
			return true
		}
	}
	return false
}

func (e *Emulator) describeInstanceInformation(c *call) (any, *apiError) {
	var in struct {
		Filters, InstanceInformationFilterList []filter
		MaxResults                             *int
		NextToken                              string
	}
	if failed := c.decode(&in); failed != nil {
		return nil, failed
	}
	size := 10
	if in.MaxResults != nil {
		size = *in.MaxResults
	}
	switch { // bounds: SSM API model, DescribeInstanceInformation, read 2026-11-22
	case size < 5:
		return nil, invalid(size, "maxResults", "Member must have value greater than or equal to 5")
	case size > 50:
		return nil, invalid(size, "maxResults", "Member must have value less than or equal to 50")
	}
	filters := append(in.Filters, in.InstanceInformationFilterList...)
	offline := e.faulty(FaultNodeOffline)
	e.mu.Lock()
	defer e.mu.Unlock()
	for _, f := range filters {
		if f.key() != "InstanceIds" {
			continue
		}
		for _, id := range f.values() {
			if n := e.nodes[id]; n == nil || !e.shows(n) {
				return nil, unknownNode(id)
			}
		}
	}
	list := []map[string]any{}
	for _, id := range e.nodeOrder {
		n := e.nodes[id]
		if !e.shows(n) {
			continue
		}
		row := e.describeNode(n)
		if offline {
			row["PingStatus"] = "ConnectionLost"
		}
		match := true
		for _, f := range filters {
			switch field := map[string]string{
				"InstanceIds": "InstanceId", "ActivationIds": "ActivationId", "PingStatus": "PingStatus",
				"IamRole": "IamRole", "AgentVersion": "AgentVersion", "ResourceType": "ResourceType",
			}[f.key()]; {
			case field == "":
				return nil, newError("InvalidInstanceInformationFilterValue", "the emulator has no filter %s", f.key())
			default:
				value, _ := row[field].(string)
				match = match && has(f.values(), value)
			}
		}
		if match {
			list = append(list, row)
		}
	}
	rows, next, err := page(list, in.NextToken, size)
	if err != nil {
		return nil, newError("InvalidNextToken", "The specified token isn't valid.")
	}
	return withToken(map[string]any{"InstanceInformationList": rows}, "NextToken", next), nil
}

// shows reports whether DescribeInstanceInformation has a node, which it has for a while after its deregistration.
func (e *Emulator) shows(n *node) bool {
	return !n.gone || !n.goneAt.IsZero() && e.opts.Now().Sub(n.goneAt) < e.opts.Lag
}

func withToken(out map[string]any, name, token string) map[string]any {
	if token != "" {
		out[name] = token
	}
	return out
}

func (e *Emulator) describeNode(n *node) map[string]any {
	status := "ConnectionLost"
	if !n.LastPing.IsZero() && e.opts.Now().Sub(n.LastPing) < e.opts.OnlineFor {
		status = "Online"
	}
	row := map[string]any{
		"InstanceId": n.ID, "PingStatus": status, "AgentVersion": n.AgentVersion, "IsLatestVersion": true,
		"PlatformType": "Linux", "PlatformName": n.Platform, "PlatformVersion": n.PlatformVer, "IamRole": n.Role,
		"ActivationId": n.ActivationID, "RegistrationDate": seconds(n.Registered), "ResourceType": "ManagedInstance",
		"Name": n.Name, "IPAddress": n.IP, "ComputerName": n.Computer,
	}
	if !n.LastPing.IsZero() {
		row["LastPingDateTime"] = seconds(n.LastPing)
	}
	return row
}

// activationLife is what CreateActivation takes without an ExpirationDate.
const activationLife = 24 * time.Hour

// activationMost is the longest life of an activation.
const activationMost = 30 * 24 * time.Hour
