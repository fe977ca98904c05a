package pgusers

import (
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgtype"

	"github.com/coatcheck/coatcheck/sessions/login/passwords"
)

var (
	required = []string{"id", "username", "hash"}
	optional = []string{"roles", "attributes"}
)

// columns finds the columns by their names.
func columns(fields []pgconn.FieldDescription) (map[string]int, error) {
	at := make(map[string]int)
	for i, field := range fields {
		if _, twice := at[field.Name]; twice {
			return nil, fmt.Errorf("it returns two columns named %q", field.Name)
		}
		at[field.Name] = i
	}
	missing := slices.DeleteFunc(slices.Clone(required), func(name string) bool { _, ok := at[name]; return ok })
	if len(missing) > 0 {
		return nil, fmt.Errorf("it returns no column named %s", strings.Join(missing, ", "))
	}
	return at, nil
}

// decode makes the account of a row, whose values are in PostgreSQL's text form.
// Its errors name columns and never say what is in them.
func decode(fields []pgconn.FieldDescription, values [][]byte) (passwords.Account, error) {
	var a passwords.Account
	at, err := columns(fields)
	if err != nil {
		return a, err
	}
	// A database with the encoding SQL_ASCII sends bytes as they are. What reads arrays and
	// JSON would put the same sign in the place of each, and so make one role of two.
	for i, field := range fields {
		if !utf8.Valid(values[i]) {
			return a, fmt.Errorf("the column %s of a row is not UTF-8", field.Name)
		}
	}
	a.ID, a.Username = string(values[at["id"]]), string(values[at["username"]])
	// char(n) comes with blanks behind it.
	a.Hash = strings.TrimRight(string(values[at["hash"]]), " ")
	if a.ID == "" || a.Username == "" {
		return passwords.Account{}, errors.New("the id or the username of a row is NULL or empty")
	}
	if i, ok := at["roles"]; ok {
		if a.Roles, err = decodeRoles(fields[i].DataTypeOID, values[i]); err != nil {
			return passwords.Account{}, err
		}
	}
	if i, ok := at["attributes"]; ok {
		if a.Attributes, err = decodeAttributes(values[i]); err != nil {
			return passwords.Account{}, err
		}
	}
	return a, nil
}

func isJSON(oid uint32) bool { return oid == pgtype.JSONOID || oid == pgtype.JSONBOID }

var errRoles = errors.New("the column roles is neither an array nor a JSON array of texts")

// decodeRoles reads an array. array_agg and json_agg over a LEFT JOIN make one of
// a single NULL where there is nothing to join.
func decodeRoles(oid uint32, value []byte) ([]string, error) {
	if value == nil {
		return nil, nil
	}
	var names []*string
	var err error
	if isJSON(oid) {
		err = json.Unmarshal(value, &names)
	} else {
		// Arrays of all types are written alike.
		err = pgtype.NewMap().Scan(pgtype.TextArrayOID, pgtype.TextFormatCode, value, &names)
	}
	if err != nil {
		return nil, errRoles
	}
	var roles []string
	for _, name := range names {
		if name != nil {
			roles = append(roles, *name)
		}
	}
	return roles, nil
}

// decodeAttributes reads a JSON object.
func decodeAttributes(value []byte) (map[string]string, error) {
	if value == nil {
		return nil, nil
	}
	var members map[string]json.RawMessage
	if err := json.Unmarshal(value, &members); err != nil {
		return nil, errors.New("the column attributes is not a JSON object")
	}
	attributes := make(map[string]string, len(members))
	for name, member := range members {
		var text *string
		switch err := json.Unmarshal(member, &text); {
		case err != nil:
			attributes[name] = string(member)
		case text != nil:
			attributes[name] = *text
		}
	}
	return attributes, nil
}
