// SPDX-License-Identifier: Apache-2.0

package image

import (
	"archive/tar"
	"iter"
	"path"
	"slices"
	"strconv"
	"strings"
)

// user says who runs commands.
func (c *checker) user() {
	who, _, _ := strings.Cut(c.img.Config.User, ":")
	known := false
	for f := range fields(c.files.content["etc/passwd"]) {
		known = known || len(f) > 2 && (f[0] == who || f[2] == who)
	}
	switch {
	case who == "" || who == "root" || strings.Trim(who, "0") == "":
		c.good("user", "sandbox, for the image names %s: commands are never root's by default", orNobody(who))
	case known:
		c.good("user", "%s", c.img.Config.User)
	default:
		c.good("user", "%s, whom /etc/passwd does not have: it is made", c.img.Config.User)
	}
}

func orNobody(who string) string {
	if who == "" {
		return "nobody"
	}
	return who
}

func (c *checker) workdir() {
	dir := c.img.Config.WorkingDir
	_, n, ok := c.files.find(dir)
	switch {
	case !path.IsAbs(dir):
		c.good("working directory", "the user's home")
	case dir != "/" && ok && n.kind == tar.TypeDir && !c.mayWrite(n):
		c.good("working directory", "%s, where the user may not write: it belongs to %d:%d with mode %04o (COPY --chown, RUN chown)", dir, n.uid, n.gid, n.mode)
	case dir == "/" || ok && n.kind == tar.TypeDir:
		c.good("working directory", "%s", dir)
	case ok:
		c.missing("working directory", "%s is no directory: change WORKDIR", dir)
	default:
		c.good("working directory", "%s, which is made for the user", dir)
	}
}

// mayWrite says whether the user may write into a directory of the image.
func (c *checker) mayWrite(n node) bool {
	who, group, _ := strings.Cut(c.img.Config.User, ":")
	if who == "" || who == "root" || strings.Trim(who, "0") == "" {
		who, group = "1000", "1000" // sandbox, whom guestd makes
	}
	uid, gid := who, "0"
	name := who
	for f := range fields(c.files.content["etc/passwd"]) {
		if len(f) > 3 && (f[0] == who || f[2] == who) {
			name, uid, gid = f[0], f[2], f[3]
			break
		}
	}
	groups := map[string]bool{}
	for f := range fields(c.files.content["etc/group"]) {
		if len(f) < 4 {
			continue
		}
		if f[0] == group {
			group = f[2]
		}
		if slices.Contains(strings.Split(f[3], ","), name) {
			groups[f[2]] = true
		}
	}
	if group != "" {
		gid = group
	}
	groups[gid] = true
	switch {
	case strconv.Itoa(n.uid) == uid:
		return n.mode&0o200 != 0
	case groups[strconv.Itoa(n.gid)]:
		return n.mode&0o020 != 0
	}
	return n.mode&0o002 != 0
}

// fields are the lines of a file such as passwd.
func fields(file []byte) iter.Seq[[]string] {
	return func(yield func([]string) bool) {
		for line := range strings.Lines(string(file)) {
			if !yield(strings.Split(strings.TrimSpace(line), ":")) {
				return
			}
		}
	}
}
