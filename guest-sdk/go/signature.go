package guest

import (
	"errors"
	"strconv"
	"strings"

	"steward.dev/guest/cbor"
	"steward.dev/guest/internal/world"
)

// paramSpec is a parameter as the registration says it: `n: int = 1`, `*rest`, `**options`.
type paramSpec struct {
	name, python, fallback string
	hasDefault             bool
	kind                   world.ParamKind
}

// parseSignature reads `(a, b: int = 1, *, c=None) -> str`; specs are nil if nothing is said of parameters. What is wrong is
// said as text.
func parseSignature(text string) (specs []paramSpec, result, wrong string) {
	if before, after, has := cutTop(text, "->"); has {
		text, result = strings.TrimSpace(before), strings.TrimSpace(after)
	}
	text = strings.TrimSpace(text)
	if text == "" {
		return nil, result, ""
	}
	if !strings.HasPrefix(text, "(") || !strings.HasSuffix(text, ")") {
		return nil, "", "parameters stand in parentheses"
	}
	text = strings.TrimSpace(text[1 : len(text)-1])
	specs = []paramSpec{}
	kind := world.Normal
	for text != "" {
		part, rest, _ := cutTop(text, ",")
		text = strings.TrimSpace(rest)
		part = strings.TrimSpace(part)
		if part == "*" {
			kind = world.KeywordOnly
			continue
		}
		spec := paramSpec{kind: kind}
		if before, after, has := cutTop(part, "="); has {
			part, spec.fallback, spec.hasDefault = before, strings.TrimSpace(after), true
		}
		if before, after, has := cutTop(part, ":"); has {
			part, spec.python = before, strings.TrimSpace(after)
		}
		spec.name = strings.TrimSpace(part)
		if name, is := strings.CutPrefix(spec.name, "**"); is {
			spec.name, spec.kind = name, world.Keywords
		} else if name, is := strings.CutPrefix(spec.name, "*"); is {
			spec.name, spec.kind = name, world.Rest
			kind = world.KeywordOnly
		}
		if spec.name == "" || strings.ContainsAny(spec.name, " \t*()[]{}'\"") {
			return nil, "", "`" + spec.name + "` is no name"
		}
		specs = append(specs, spec)
	}
	return specs, result, ""
}

// cutTop is strings.Cut, but for what stands in brackets or quotes.
func cutTop(text, separator string) (before, after string, found bool) {
	depth, quote := 0, byte(0)
	for at := 0; at < len(text); at++ {
		switch c := text[at]; {
		case quote != 0:
			if c == '\\' {
				at++
			} else if c == quote {
				quote = 0
			}
		case depth == 0 && strings.HasPrefix(text[at:], separator):
			return text[:at], text[at+len(separator):], true
		case c == '\'' || c == '"':
			quote = c
		case c == '(' || c == '[' || c == '{':
			depth++
		case c == ')' || c == ']' || c == '}':
			depth--
		}
	}
	return text, "", false
}

var errLiteral = errors.New("no literal")

// parseLiteral encodes a value as Python writes it: None, True, 1, 1.5, 'text', [], (), {}, and lists and tuples of these.
func parseLiteral(text string) ([]byte, error) {
	switch text {
	case "None":
		return cbor.AppendNull(nil), nil
	case "True", "False":
		return cbor.AppendBool(nil, text == "True"), nil
	case "{}":
		return cbor.AppendMap(nil, 0), nil
	case "":
		return nil, errLiteral
	}
	if whole, err := strconv.ParseInt(text, 10, 64); err == nil {
		return cbor.AppendInt(nil, whole), nil
	}
	// Not Go's own forms: Inf, 0x1p-2, 1_000.
	if value, err := strconv.ParseFloat(text, 64); err == nil && strings.Trim(text, "0123456789.eE+-") == "" {
		return cbor.AppendFloat(nil, value), nil
	}
	first, last := text[0], text[len(text)-1]
	switch {
	case len(text) > 1 && first == last && (first == '\'' || first == '"'):
		inner := text[1 : len(text)-1]
		if first == '\'' {
			inner = strings.ReplaceAll(strings.ReplaceAll(inner, `\'`, `'`), `"`, `\"`)
		}
		value, err := strconv.Unquote(`"` + inner + `"`)
		if err != nil {
			return nil, errLiteral
		}
		return cbor.AppendText(nil, value), nil
	case first == '[' && last == ']', first == '(' && last == ')':
		var items []byte
		count := 0
		for inner := strings.TrimSpace(text[1 : len(text)-1]); inner != ""; count++ {
			part, rest, _ := cutTop(inner, ",")
			item, err := parseLiteral(strings.TrimSpace(part))
			if err != nil {
				return nil, err
			}
			items = append(items, item...)
			inner = strings.TrimSpace(rest)
		}
		var out []byte
		if first == '(' {
			out = cbor.AppendTag(out, cbor.TagTuple)
		}
		return append(cbor.AppendArray(out, count), items...), nil
	}
	return nil, errLiteral
}
