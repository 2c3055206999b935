// SPDX-License-Identifier: Apache-2.0

package edge

import (
	"bufio"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"regexp"
	"strings"
)

const (
	// minToken is what a token must have at least, in characters: 16 random letters
	// and digits are beyond guessing.
	minToken = 16
	maxToken = 512
	// maxTokensFile bounds the file in bytes.
	maxTokensFile = 1 << 20
)

// identityPattern keeps names fit for logs, metrics and records.
var identityPattern = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._@-]{0,63}$`)

// Tokens are the bearer tokens (RFC 6750) of a server's callers. They are never
// changed after they were read, and may be used concurrently.
type Tokens struct{ known []token }

// token is who is called by the token that has this hash.
type token struct {
	identity string
	hash     [sha256.Size]byte
}

// ReadTokensFile reads tokens from a file that only its owner may read.
func ReadTokensFile(path string) (*Tokens, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("open tokens: %w", err)
	}
	defer func() { _ = f.Close() }() // it was only read
	info, err := f.Stat()
	switch {
	case err != nil:
		return nil, fmt.Errorf("stat tokens: %w", err)
	case !info.Mode().IsRegular():
		return nil, fmt.Errorf("tokens file %s is not a regular file", path)
	case info.Mode().Perm()&0o077 != 0:
		return nil, fmt.Errorf("tokens file %s may be read by others (mode %04o): chmod 600 %s", path, info.Mode().Perm(), path)
	}
	t, err := ReadTokens(f)
	if err != nil {
		return nil, fmt.Errorf("tokens file %s: %w", path, err)
	}
	return t, nil
}

// ReadTokens reads one token a line: a name, white space and the token, or
// sha256: and the token's SHA-256 in hexadecimal digits. Several tokens may have one
// name. Empty lines and those that begin with # are passed over.
func ReadTokens(r io.Reader) (*Tokens, error) {
	t := &Tokens{}
	scanner := bufio.NewScanner(io.LimitReader(r, maxTokensFile))
	seen := make(map[[sha256.Size]byte]int)
	for n := 1; scanner.Scan(); n++ {
		fields := strings.Fields(scanner.Text())
		if len(fields) == 0 || strings.HasPrefix(fields[0], "#") {
			continue
		}
		entry, err := parseToken(fields)
		if err != nil {
			return nil, fmt.Errorf("line %d: %w", n, err)
		}
		if before := seen[entry.hash]; before != 0 {
			return nil, fmt.Errorf("line %d: the token of line %d again", n, before)
		}
		seen[entry.hash] = n
		t.known = append(t.known, entry)
	}
	if err := scanner.Err(); err != nil {
		return nil, fmt.Errorf("read: %w", err)
	}
	if len(t.known) == 0 {
		return nil, errors.New("no tokens: write a line NAME TOKEN for each caller; `openssl rand -hex 32` makes a token")
	}
	return t, nil
}

// parseToken reads one line. The errors never hold the token.
func parseToken(fields []string) (token, error) {
	if len(fields) != 2 {
		return token{}, fmt.Errorf("%d words: a line is NAME TOKEN", len(fields))
	}
	entry := token{identity: fields[0]}
	if !identityPattern.MatchString(entry.identity) {
		return token{}, fmt.Errorf("name %.80q: use 1 to 64 letters, digits and . _ @ -", entry.identity)
	}
	if digits, ok := strings.CutPrefix(fields[1], "sha256:"); ok {
		sum, err := hex.DecodeString(digits)
		if err != nil || len(sum) != sha256.Size {
			return token{}, errors.New("after sha256: come 64 hexadecimal digits")
		}
		copy(entry.hash[:], sum)
		return entry, nil
	}
	if n := len(fields[1]); n < minToken || n > maxToken {
		return token{}, fmt.Errorf("a token of %d characters: it has %d to %d", n, minToken, maxToken)
	}
	entry.hash = sha256.Sum256([]byte(fields[1]))
	return entry, nil
}

// identify returns whose token it is. All are compared, each in constant time: how
// long it takes tells nothing of any.
func (t *Tokens) identify(presented string) (identity string, ok bool) {
	hash := sha256.Sum256([]byte(presented))
	for _, entry := range t.known {
		if subtle.ConstantTimeCompare(hash[:], entry.hash[:]) == 1 {
			identity, ok = entry.identity, true
		}
	}
	return identity, ok
}
