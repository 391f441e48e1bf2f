# Constraints for synthesis: none.
