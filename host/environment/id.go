// SPDX-License-Identifier: Apache-2.0

package environment

import (
	"crypto/rand"
	"regexp"
	"strings"
)

// idPattern is the shape of an id: short enough to read aloud, 40 random bits,
// and a valid host name. Ids are handles, not secrets.
var idPattern = regexp.MustCompile(`^env-[a-z2-7]{8}$`)

// NewID makes the id of an environment.
func NewID() string { return "env-" + random(8) }

func random(n int) string { return strings.ToLower(rand.Text()[:n]) }

// checkID tells a malformed id from an unknown one.
func checkID(id string) error {
	if idPattern.MatchString(id) {
		return nil
	}
	return invalid("environment_id", "%q is malformed: it looks like env-k3vq7d2m, as create_environment returned it", plain(id, 64))
}
