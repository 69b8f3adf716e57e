"""Certificate files (电子证照文件, GB/T 36905): verified, and copied for one stated use."""
