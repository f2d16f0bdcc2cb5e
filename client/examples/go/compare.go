package main

import (
	"math/big"
)

// Relative difference up to which two floating-point numbers are the same answer.
var floatTolerance = big.NewRat(1, 1_000_000_000)

// isAnsweredBy tells whether a cell is the answer, the text of a column of the given type.
func isAnsweredBy(kind, expected string, actual cell) bool {
	if actual.null || expected == "" {
		return actual.null && expected == ""
	}
	if kind == "string" || kind == "date" {
		return expected == actual.text
	}
	wanted, ok := new(big.Rat).SetString(expected)
	if !ok {
		return false
	}
	found, ok := new(big.Rat).SetString(actual.text)
	if !ok {
		return false
	}
	if kind != "float" {
		return wanted.Cmp(found) == 0
	}
	difference := new(big.Rat).Sub(wanted, found)
	difference.Abs(difference)
	if actual.scale >= 0 {
		// Averages of decimals are decimals here, cut off after their last digit.
		lastDigit := new(big.Int).Exp(big.NewInt(10), big.NewInt(int64(actual.scale)), nil)
		if difference.Cmp(new(big.Rat).SetFrac(big.NewInt(1), lastDigit)) < 0 {
			return true
		}
	}
	return difference.Cmp(wanted.Abs(wanted).Mul(wanted, floatTolerance)) <= 0
}
