// SPDX-License-Identifier: Apache-2.0

package main

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"golang.org/x/perf/benchunit"
)

const intro = `# Benchmarks

Written by ` + "`task bench`" + `, all from one run; not to be edited. Figures are medians with
the extremes beside them. Budgets are for a machine without KVM.

`

// render writes the document. Rows and metrics must match both ways.
func render(res *results, tables []table) (string, error) {
	var out strings.Builder
	out.WriteString(intro)
	out.WriteString("| machine | |\n|---|---|\n")
	for _, m := range machine {
		value, ok := res.config[m.key]
		if !ok {
			return "", fmt.Errorf("the results do not say %q", m.key)
		}
		fmt.Fprintf(&out, "| %s | %s |\n", m.title, value)
	}
	var errs []error
	used := map[string]bool{} // "bench metric"
	for _, t := range tables {
		fmt.Fprintf(&out, "\n## %s\n\n%s\n\n| | measured | min – max | samples | budget | |\n|---|---|---|---|---|---|\n", t.title, t.note)
		for _, r := range t.rows {
			used[r.bench+" "+r.metric] = true
			line, err := res.line(r)
			errs = append(errs, err)
			out.WriteString(line)
		}
	}
	errs = append(errs, res.unused(used))
	if err := errors.Join(errs...); err != nil {
		return "", err
	}
	out.WriteString(res.microTable())
	return out.String(), nil
}

// line is one row of a table.
func (res *results) line(r row) (string, error) {
	units := res.metrics[r.bench]
	if r.stat == "" {
		r.stat = "p50"
	}
	prefix := r.metric + "-" + r.stat + "-"
	for unit, value := range units {
		base, ok := strings.CutPrefix(unit, prefix)
		if !ok {
			continue
		}
		count := units[r.metric+"-count"]
		spread := ""
		if count > 1 {
			spread = format(units[r.metric+"-min-"+base], base) + " – " + format(units[r.metric+"-max-"+base], base)
		}
		budget, verdict := r.judge(value, base)
		return fmt.Sprintf("| %s | %s | %s | %.0f | %s | %s |\n",
			r.title, format(value, base), spread, count, budget, verdict), nil
	}
	return "", fmt.Errorf("row %q: the results have no metric %s… of Benchmark%s", r.title, prefix, r.bench)
}

// judge compares a value with the row's budget.
func (r row) judge(value float64, base string) (budget, verdict string) {
	if r.budget == 0 {
		return "", ""
	}
	budget, over := "≤ ", value-r.budget
	if r.atLeast {
		budget, over = "≥ ", r.budget-value
	}
	budget += format(r.budget, base)
	word := "met by "
	if over > 0 {
		word = "**missed** by "
	}
	margin := max(over, -over)
	if base == "ratio" {
		return budget, word + fmt.Sprintf("%.0f points", margin*100)
	}
	return budget, word + fmt.Sprintf("%s (%.0f %%)", format(margin, base), margin/r.budget*100)
}

// unused names the metrics that no row shows.
func (res *results) unused(used map[string]bool) error {
	var errs []error
	for _, bench := range slices.Sorted(maps.Keys(res.metrics)) {
		for _, unit := range slices.Sorted(maps.Keys(res.metrics[bench])) {
			if metric, ok := strings.CutSuffix(unit, "-count"); ok && !used[bench+" "+metric] {
				errs = append(errs, fmt.Errorf("metric %s of Benchmark%s has no row in rows.go", metric, bench))
			}
		}
	}
	return errors.Join(errs...)
}

// microTable has what the benchmarks without a machine measured.
func (res *results) microTable() string {
	if len(res.micro) == 0 {
		return ""
	}
	var out strings.Builder
	out.WriteString("\n## Parts, without a machine\n\nGo benchmarks of single packages on the host, in the same run.\n\n" +
		"| package | benchmark | time | throughput | allocated |\n|---|---|---|---|---|\n")
	for _, r := range res.micro {
		cells := map[string]string{}
		for _, v := range r.Values {
			cells[v.Unit] = format(v.Value, strings.TrimSuffix(v.Unit, "/op"))
		}
		pkg := strings.TrimPrefix(r.GetConfig("pkg"), "github.com/stacklok/waggle/")
		fmt.Fprintf(&out, "| %s | %s | %s | %s | %s |\n", pkg, r.Name, cells["sec/op"], cells["B/s"], cells["B/op"])
	}
	return out.String()
}

// format writes a value of a base unit with three digits.
func format(value float64, base string) string {
	switch base {
	case "ratio":
		return fmt.Sprintf("%.0f %%", value*100)
	case "times":
		return fmt.Sprintf("%.3g ×", value)
	case "sec":
		base = "s"
	}
	scale := benchunit.CommonScale([]float64{value}, benchunit.ClassOf(base))
	if scale.Prefix == "" && value < 1 {
		scale.Prec = 3
	}
	number := strings.TrimSuffix(scale.Format(value), scale.Prefix)
	return number + " " + scale.Prefix + base
}
